"""Optimizers that follow a cut."""

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from axformer_lightning.surgery import Edit, keep
from axformer_lightning.training.references import nested_optimizers

logger = logging.getLogger(__name__)

NAMES = "param_names"  # of a group of an optimizer that was given `named_parameters()`, one for each parameter
PLAIN = (bool, int, float, str)


def carry_over(optimizer: Optimizer, edits: Iterable[Edit]) -> None:
    """Make ``optimizer`` train the parameters that are left after a cut, with their share of its state.

    The optimizer object, its groups and their settings stay, so schedulers continue; removed parameters are dropped.
    Optimizers that it wraps follow, too. A parameter whose state has another shape than its own (except for factored
    states with a 1 in place of a dimension), or holds more than tensors and plain values, as lists of factors, starts
    without state, as in a new optimizer, and a warning is logged.

    Args:
        optimizer: holds the old parameters.
        edits: old and new of each parameter that the cut changed.

    Example:
        >>> from axformer_lightning.surgery import Edit
        >>> old, new = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
        >>> optimizer = torch.optim.SGD([old], momentum=0.9)
        >>> optimizer.state[old]["momentum_buffer"] = torch.tensor([1.0, 2.0, 3.0])
        >>> carry_over(optimizer, [Edit(old, new, {0: [0, 2]})])
        >>> optimizer.state[new]["momentum_buffer"]
        tensor([1., 3.])
    """
    by_parameter = {edit.old: edit for edit in edits}
    for inner in nested_optimizers(optimizer):
        _carry_over(inner, by_parameter)


def _carry_over(optimizer: Optimizer, by_parameter: Mapping[nn.Parameter, Edit]) -> None:
    with torch.inference_mode(False), torch.no_grad():
        followed: dict[Tensor, Any] = {}
        reset: list[str] = []
        for edit in by_parameter.values():
            if edit.new is None or edit.old not in optimizer.state:
                continue
            state = optimizer.state[edit.old]
            strange = next((name for name, value in state.items() if not _can_follow(value, edit)), None)
            if strange is None:
                followed[edit.new] = {name: _follow(value, edit) for name, value in state.items()}
            else:
                value, shape = state[strange], tuple(edit.old.shape)
                kind = type(value).__name__
                has = f"has the shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"is a {kind}"
                reset.append(f"{strange!r} {has}, its parameter had the shape {shape}")
        for group in optimizer.param_groups:
            left = [by_parameter[p].new if p in by_parameter else p for p in group["params"]]
            if NAMES in group:
                group[NAMES] = [name for name, new in zip(group[NAMES], left, strict=True) if new is not None]
            group["params"] = [new for new in left if new is not None]
        for old in by_parameter:
            optimizer.state.pop(old, None)
        optimizer.state.update(followed)
    if reset:
        logger.warning(
            "The state of %s cannot follow the cut for %d of its parameters, and starts from scratch there: %s.",
            type(optimizer).__name__,
            len(reset),
            reset[0],
        )


def forget_removed(trainer: L.Trainer, module: nn.Module) -> None:
    """Take removed parameters out of what Lightning's finetuning callbacks keep of groups, by name, to resume by.

    Args:
        trainer: whose callbacks are looked through.
        module: that was cut.
    """
    left = {name for name, _ in module.named_parameters()}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for groups in getattr(callback, "_internal_optimizer_metadata", {}).values():
            for group in groups:
                group["params"] = [name for name in group["params"] if name in left]


def held_by(optimizers: Sequence[Optimizer]) -> set[Tensor]:
    """Return all parameters in the groups of optimizers."""
    return {parameter for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]}


def check_all_trained(
    module: nn.Module, optimizers: Sequence[Optimizer], edits: Iterable[Edit], before: Set[Tensor]
) -> None:
    """Raise unless the optimizers hold what is left of every parameter that they held before, and no removed one.

    Args:
        module: that was cut.
        optimizers: that have followed.
        edits: what became of each parameter.
        before: what they held before the cut.

    Raises:
        RuntimeError: with the names of the parameters that would not be trained.
    """
    held = held_by(optimizers)
    new = {edit.new for edit in edits if edit.new is not None and edit.new.requires_grad and edit.old in before}
    lost = [name for name, parameter in module.named_parameters() if parameter in new and parameter not in held]
    if lost or any(edit.old in held for edit in edits):
        raise RuntimeError(
            f"Expected the optimizers to follow the cut, but these parameters would not be trained: {lost}. Return"
            " every optimizer of the transformer from `configure_optimizers`."
        )


def _can_follow(value: Any, edit: Edit) -> bool:
    if not isinstance(value, Tensor):
        return value is None or isinstance(value, PLAIN)
    if value.dim() == 0:  # Adam's step count
        return True
    shape = edit.old.shape
    return value.dim() == len(shape) and all(size in (1, full) for size, full in zip(value.shape, shape, strict=True))


def _follow(value: Any, edit: Edit) -> Any:
    """Return the part of a state value that belongs to what is left of its parameter."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    shape = edit.old.shape
    return keep(value, {dim: kept for dim, kept in edit.kept.items() if value.shape[dim] == shape[dim]})
