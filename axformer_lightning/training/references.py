"""What refers to the parameters that a cut replaces, beside the module: found before training, or told of the cut."""

from collections import Counter, deque
from collections.abc import Collection, Iterator
from typing import Any
from weakref import ref

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from axformer_lightning.anatomy import layer_modules
from axformer_lightning.basics.untouched import PLAIN, has_attributes
from axformer_lightning.surgery import Edit

HOOK = "axformer_cut"  # the method by which a module or a callback follows by itself
FOLLOWED = {"param_groups", "state", "defaults", "_average_model"}  # by `carry_over`, and as averages
OF_MODULES = frozenset(vars(L.LightningModule()))


def check_references(
    trainer: L.Trainer, module: L.LightningModule, transformer: PreTrainedModel, *, copies: bool = True
) -> None:
    """Refuse whatever holds parameters that a cut replaces, or copies of them, and would not follow.

    Optimizers follow, also wrapped ones, and so do Lightning's averages; a module or callback with a method
    `axformer_cut` follows by itself.

    Args:
        trainer: whose optimizers and callbacks are looked through.
        module: whose attributes are.
        transformer: what will be cut.
        copies: whether collections of tensors that are shaped like all of its weights count, as those of an average do.
            Where training has begun they may be a record, which need not follow.

    Raises:
        ValueError: naming what it is that would be left behind.
    """
    wanted = {parameter for layer in layer_modules(transformer) for parameter in layer.parameters()}
    shapes = Counter(parameter.shape for parameter in wanted)
    found: list[str] = []
    for path, root in _holders(trainer, module, transformer):
        for where, value in _walk(root, path):
            tensors = _tensors_in(value)
            copied = copies and len(tensors) >= len(wanted) and _has_all(tensors, shapes)
            if copied or not wanted.isdisjoint(tensors):
                found.append(where)
    if found:
        raise ValueError(
            f"Expected all that refers to the weights of {type(transformer).__name__} to follow a cut, which replaces"
            f" them, but {', '.join(sorted(set(found))[:5])} would not. Use another optimizer or callback, or give the"
            f" module or callback a method `{HOOK}(self, edits)` (docs/lightning_features.md)."
        )


def tell_of_cut(trainer: L.Trainer, module: L.LightningModule, prefix: str, edits: Collection[Edit]) -> None:
    """Call `axformer_cut` of the module and of every callback that has one.

    Args:
        trainer: whose callbacks are told.
        module: that was cut.
        prefix: of the transformer's parameters in the module.
        edits: what became of each parameter; told by its name in the module.
    """
    for holder in (module, *trainer.callbacks):  # type: ignore[attr-defined]
        if hasattr(holder, HOOK):
            getattr(holder, HOOK)({prefix + edit.name: edit for edit in edits})


def copies_of(
    trainer: L.Trainer, module: L.LightningModule, transformer: PreTrainedModel
) -> dict[PreTrainedModel, list[float]]:
    """Return copies of a transformer, or of its base model, that nothing trains, with what tells whether they change.

    Those that do change are averages that a module or callback keeps itself; those that do not are teachers.
    """
    trained = {p for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
    inside = {*transformer.modules()}
    found = {
        part: contents_of(part)
        for path, root in [("", [module]), *_holders(trainer, module, transformer)]
        for _, value in _walk(root, path)
        for part in (value.modules() if isinstance(value, nn.Module) else ())
        if isinstance(part, PreTrainedModel)
        and part not in inside
        and original_of(part, transformer) is not None
        and not any(parameter.requires_grad and parameter in trained for parameter in part.parameters())
    }
    within = {part for copy in found for part in copy.modules() if part is not copy}
    return {copy: contents for copy, contents in found.items() if copy not in within}


def original_of(copy: PreTrainedModel, transformer: PreTrainedModel) -> nn.Module | None:
    """Return what ``copy`` is a copy of, by its shapes: ``transformer`` or its base model; None if of neither."""
    parts: tuple[nn.Module, ...] = (transformer, transformer.base_model)
    return next((part for part in parts if _shapes(part) == _shapes(copy)), None)


def contents_of(model: nn.Module) -> list[float]:
    """Return what differs as soon as any weight of ``model`` does, but for rare coincidences."""
    with torch.no_grad():
        return torch.stack([torch.linalg.vector_norm(p.detach().double()) for p in model.parameters()]).tolist()


def nested_optimizers(optimizer: Optimizer) -> Iterator[Optimizer]:
    """Yield an optimizer and those that it wraps, whatever their attributes are called.

    Example:
        >>> inner = torch.optim.SGD([nn.Parameter(torch.ones(1))])
        >>> outer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
        >>> outer.base_optimizer = inner
        >>> [one is other for one, other in zip(nested_optimizers(outer), [outer, inner])]
        [True, True]
    """
    yield optimizer
    for value in list(vars(optimizer).values()):
        for inner in value if isinstance(value, list | tuple) else [value]:
            if isinstance(inner, Optimizer):
                yield from nested_optimizers(inner)


def _holders(
    trainer: L.Trainer, module: L.LightningModule, transformer: PreTrainedModel
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield names and attributes of all that may refer to parameters and does not follow by itself."""
    for optimizer in (inner for outer in trainer.optimizers for inner in nested_optimizers(outer)):
        groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        yield type(optimizer).__name__, _without(vars(optimizer), FOLLOWED) | {"param_groups": groups}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if not hasattr(callback, HOOK):
            yield type(callback).__name__, _without(vars(callback), FOLLOWED)
    inside = {*transformer.modules()}
    for name, part in module.named_modules() if not hasattr(module, HOOK) else ():
        if part not in inside:
            yield f"{type(module).__name__}{name and '.'}{name}", _without(vars(part), OF_MODULES)


def _without(attributes: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name not in names}


def _walk(root: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what can be reached from a dict of attributes, with where it is; modules and optimizers are not entered."""
    seen: dict[int, Any] = {}
    waiting = [(f"{path}.{name}", value) for name, value in root.items()] if isinstance(root, dict) else [(path, root)]
    while waiting:
        where, value = waiting.pop()
        value = value() if isinstance(value, ref) else value
        if value is None or isinstance(value, PLAIN) or id(value) in seen:
            continue
        seen[id(value)] = value
        yield where, value
        if isinstance(value, Tensor | nn.Module | Optimizer):
            continue
        if isinstance(value, dict):
            waiting += [(where, part) for part in (*value.keys(), *value.values())]
        elif isinstance(value, list | tuple | set | deque):
            waiting += [(where, part) for part in value]
        elif has_attributes(value):
            waiting += [(f"{where}.{name}", part) for name, part in vars(value).items()]


def _tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | deque) else ()
    return [part for part in parts if isinstance(part, Tensor)]


def _has_all(tensors: Collection[Tensor], shapes: Counter[torch.Size]) -> bool:
    return shapes <= Counter(tensor.shape for tensor in tensors)


def _shapes(model: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, parameter.shape) for name, parameter in model.named_parameters()]
