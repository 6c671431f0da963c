"""Optimizers that follow a cut."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from axformer_lightning.surgery import Edit, keep


def carry_over(optimizer: Optimizer, edits: Iterable[Edit]) -> None:
    """Make ``optimizer`` train the parameters that a cut left, with their share of its state.

    The optimizer object, its groups and their settings stay, so that schedulers go on; removed parameters leave.

    Args:
        optimizer: holds the old parameters.
        edits: what became of each parameter that the cut touched.

    Raises:
        ValueError: if a state tensor has neither the parameter's shape nor a factored one.

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
    with torch.inference_mode(False), torch.no_grad():
        followed: dict[Tensor, Any] = {
            edit.new: {name: _follow(value, edit) for name, value in optimizer.state[edit.old].items()}
            for edit in by_parameter.values()
            if edit.new is not None and edit.old in optimizer.state
        }
        for group in optimizer.param_groups:
            group["params"] = [
                new
                for parameter in group["params"]
                if (new := by_parameter[parameter].new if parameter in by_parameter else parameter) is not None
            ]
        for old in by_parameter:
            optimizer.state.pop(old, None)
        optimizer.state.update(followed)


def check_all_trained(module: nn.Module, optimizers: Sequence[Optimizer], edits: Iterable[Edit]) -> None:
    """Raise unless the optimizers hold every new parameter that can be trained, and no removed one.

    Raises:
        RuntimeError: naming the parameters that would silently not train.
    """
    held = {parameter for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]}
    new = {edit.new for edit in edits if edit.new is not None and edit.new.requires_grad}
    lost = [name for name, parameter in module.named_parameters() if parameter in new and parameter not in held]
    if lost or any(edit.old in held for edit in edits):
        raise RuntimeError(
            f"Expected the optimizers to follow the cut, but these parameters would not be trained: {lost}. Return"
            " every optimizer of the transformer from `configure_optimizers`."
        )


def _follow(value: Any, edit: Edit) -> Any:
    """Return the share of a state value that belongs to what is left of its parameter."""
    if not isinstance(value, Tensor) or value.dim() == 0:  # Adam's step count
        return value
    shape = edit.old.shape
    if value.dim() != len(shape) or any(size not in (1, full) for size, full in zip(value.shape, shape, strict=True)):
        raise ValueError(
            f"Expected optimizer state of the shape of its parameter, {tuple(shape)}, got {tuple(value.shape)}: it"
            " cannot follow the cut. Use an optimizer whose state has the parameters' shape."
        )
    return keep(value, {dim: kept for dim, kept in edit.kept.items() if value.shape[dim] == shape[dim]})
