"""Copies of modules, and changes to modules that are undone afterwards."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
ADAPTED = ("base_layer", "modules_to_save")  # what PEFT's layers keep beside the adapter


def find_adapter(module: nn.Module) -> str | None:
    """Return the name of the first layer in ``module`` that PEFT has wrapped, None where there is none.

    Example:
        >>> print(find_adapter(nn.Linear(1, 1)))
        None
    """
    wrapped = (name for name, part in module.named_modules() if any(hasattr(part, kept) for kept in ADAPTED))
    return next(wrapped, None)


def first_tensor(*args: object, **kwargs: object) -> Tensor:
    """Return the first tensor that a module is called with, in order or by name.

    Example:
        >>> first_tensor(None, hidden_states=torch.ones(2))
        tensor([1., 1.])
    """
    return next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))


def copied(module: M) -> M:
    """Return a copy that can be changed and trained, also where the caller is in `torch.inference_mode`.

    Example:
        >>> with torch.inference_mode():
        ...     copied(nn.Linear(1, 1)) is not None
        True
    """
    with torch.inference_mode(False):
        return copy.deepcopy(module)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Run ``model`` in eval mode, and restore the mode of each of its modules afterwards.

    Example:
        >>> dropout = nn.Dropout()
        >>> with eval_mode(dropout):
        ...     dropout.training
        False
        >>> dropout.training
        True
    """
    with ExitStack() as undo:
        for module in model.modules():
            undo.callback(setattr, module, "training", module.training)
        model.eval()
        yield


@contextmanager
def dropping(model: nn.Module, rate: float | None) -> Iterator[None]:
    """Let every dropout of ``model`` drop a share ``rate`` of what it is given, and restore its own share afterwards.

    Args:
        model: with dropouts of torch, or shares in numbers called `attention_dropout` as in ModernBERT and ViT.
        rate: the share, from 0; None changes nothing.

    Example:
        >>> dropout = nn.Dropout(0.1)
        >>> with dropping(dropout, 0.0):
        ...     dropout
        Dropout(p=0.0, inplace=False)
        >>> dropout
        Dropout(p=0.1, inplace=False)
    """
    with ExitStack() as undo:
        for module in model.modules() if rate is not None else ():
            name = "p" if isinstance(module, nn.Dropout) else "attention_dropout"
            if isinstance(before := getattr(module, name, None), int | float):
                undo.callback(setattr, module, name, before)
                setattr(module, name, rate)
        yield


def replaced(module: nn.Module, forward: Callable[..., Any]) -> Callable[[], None]:
    """Replace the forward of ``module``, whose name, hooks and parameters stay; return what undoes it.

    Example:
        >>> identity = nn.Identity()
        >>> undo = replaced(identity, lambda x: x + 1)
        >>> before, _, after = identity(1), undo(), identity(1)
        >>> before, after
        (2, 1)
    """
    before = module.__dict__.get("forward")  # someone else may have replaced it, too
    module.forward = forward

    def undo() -> None:
        del module.forward
        if before is not None:
            module.forward = before

    return undo
