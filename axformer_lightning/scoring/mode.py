"""Eval mode for a while."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Run ``model`` in eval mode, then each of its modules in the mode that it had.

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
