"""CARRY ON: what holds the old parameters follows the cut: optimizers, the weights to rewind to, checkpoints."""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from axformer_lightning.anatomy import LayerPlan, find_transformer
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import Edit, apply_plan_, keep, kept_positions

PLANS_KEY = "axformer_plans"

M = TypeVar("M", bound=L.LightningModule)


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


@dataclass(frozen=True)
class StartingPoint:
    """Where a fit began, to rewind to: the weights on disk, the rest in memory.

    Args:
        path: safetensors file with every parameter and buffer.
        layers: what was left of each layer of the transformer then.
        groups: settings of the optimizers' parameter groups.
        schedulers: states of the learning rate schedulers.
    """

    path: Path
    layers: tuple[LayerPlan, ...]
    groups: list[list[dict[str, Any]]]
    schedulers: list[dict[str, Any]]

    @classmethod
    def save(
        cls,
        path: str | os.PathLike[str],
        module: nn.Module,
        layers: tuple[LayerPlan, ...],
        optimizers: Sequence[Optimizer] = (),
        schedulers: Sequence[Any] = (),
    ) -> "StartingPoint":
        """Write the weights of ``module`` to ``path`` and remember the rest."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # Cloned: safetensors refuses tensors that share memory, as tied weights do.
        save_file({name: value.detach().cpu().clone().contiguous() for name, value in _tensors(module).items()}, path)
        groups = [[_settings(group) for group in optimizer.param_groups] for optimizer in optimizers]
        states = [copy.deepcopy(scheduler.state_dict()) for scheduler in schedulers]
        return cls(Path(path), layers, groups, states)

    def rewind_(
        self,
        module: nn.Module,
        transformer: PreTrainedModel,
        optimizers: Sequence[Optimizer] = (),
        schedulers: Sequence[Any] = (),
    ) -> None:
        """Put the weights back into a module that has been cut since; optimizers and schedulers start afresh.

        Source: the authors' final step (`--from_specialized`), arXiv 2010.03688, section 3.4.

        Args:
            module: holds ``transformer``; cut since this point was saved.
            transformer: the model that was cut.
            optimizers: lose their state and get their groups' settings of then back.
            schedulers: get their state of then back.
        """
        start = load_file(self.path)
        prefix = next(f"{name}." if name else "" for name, child in module.named_modules() if child is transformer)
        now = getattr(transformer, "axformer_plan", None)
        positions = kept_positions(transformer, self.layers, self.layers if now is None else now.layers)
        kept = {prefix + name: where for name, where in positions.items()}
        with torch.inference_mode(False), torch.no_grad():
            for name, value in _tensors(module).items():
                value.copy_(keep(start[name], kept.get(name) or {}))
        for optimizer, groups in zip(optimizers, self.groups, strict=True):
            optimizer.state.clear()
            for group, settings in zip(optimizer.param_groups, groups, strict=True):
                group.update(copy.deepcopy(settings))
        for scheduler, state in zip(schedulers, self.schedulers, strict=True):
            scheduler.load_state_dict(copy.deepcopy(state))


def apply_checkpoint_plans_(module: nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Cut the transformers inside ``module`` as the plans in a Lightning checkpoint say.

    For a LightningModule's `on_load_checkpoint(self, checkpoint)`, which runs before the weights are loaded; then
    plain `load_from_checkpoint` works for models that the callbacks have cut.

    Args:
        module: the LightningModule that is being loaded.
        checkpoint: what Lightning read; one without plans changes nothing.

    Raises:
        ValueError: if a plan does not fit.
    """
    plans: dict[str | None, Plan] = {}
    for state in checkpoint.get("callbacks", {}).values():
        for item in state.get(PLANS_KEY, ()) if isinstance(state, Mapping) else ():
            plans[item["model"]] = Plan.from_dict(item["plan"])
    for name, plan in plans.items():
        transformer = find_transformer(module, name)
        if getattr(transformer, "axformer_plan", None) != plan:
            apply_plan_(transformer, plan)


def load_from_checkpoint(module_class: type[M], path: str | os.PathLike[str], **kwargs: Any) -> M:
    """Load a LightningModule from a checkpoint that was saved after its transformer had been cut.

    Args:
        module_class: the user's class; it need not know of plans.
        path: the checkpoint.
        kwargs: passed to ``module_class.load_from_checkpoint``.

    Returns:
        The module, cut, with the checkpoint's weights and hard attention on.

    Raises:
        ValueError: if a plan in the checkpoint does not fit.
    """

    def on_load_checkpoint(self: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        apply_checkpoint_plans_(self, checkpoint)
        module_class.on_load_checkpoint(self, checkpoint)

    # Lightning makes the object itself, so only a class of the same name can tell it to cut in time.
    members = {"on_load_checkpoint": on_load_checkpoint, "__module__": module_class.__module__}
    reader: Any = type(module_class.__name__, (module_class,), members)
    module = reader.load_from_checkpoint(path, **kwargs)
    module.__class__ = module_class
    return module  # type: ignore[no-any-return]


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


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return copy.deepcopy({name: value for name, value in group.items() if name != "params"})
