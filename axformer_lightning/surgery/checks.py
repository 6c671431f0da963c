"""What a cut needs of a model, asked before anything is changed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import HardAttention, LayerPlan, anatomy_of, layer_modules, layers_left
from axformer_lightning.hard_attention import check_can_attend_hard
from axformer_lightning.int8 import check_can_be_int8
from axformer_lightning.plan import Plan, plan_of
from axformer_lightning.surgery.positions import Positions, in_projections_of, kept_positions


def check_plan(model: PreTrainedModel, plan: Plan) -> dict[str, Positions | None]:
    """Raise what :func:`cut_` would raise, and return what it would keep of each parameter; nothing is changed."""
    plan.check_fits(anatomy_of(model))
    before = layers_left(model)
    positions = kept_positions(model, before, plan.layers)
    check_can_attend_hard(model, plan.layers)
    check_can_be_int8(model, plan.layers)
    _check_plain(model, before, plan.layers)
    _check_untied(model, positions)
    return positions


def check_can_cut(
    model: PreTrainedModel, hard_attention: HardAttention | None, *, prunes: bool, rounds: bool = False
) -> None:
    """Raise what :func:`cut_` would raise for a plan that takes something from every layer; nothing is changed.

    Args:
        model: cut already or not.
        hard_attention: what may be switched on, if anything.
        prunes: whether weights may go.
        rounds: whether blocks may go to int8.

    Raises:
        ValueError: as :func:`apply_plan_`.
    """
    anatomy, wanted = anatomy_of(model), []
    for layer in layers_left(model):
        heads, neurons = layer.kept_heads(anatomy.num_heads), layer.kept_neurons(anatomy.intermediate_size)
        if prunes and heads:
            layer = layer.without_head(heads[0])
        if prunes and neurons:
            layer = layer.without_neurons(neurons[0], neurons[0] + 1)
        if hard_attention is not None and layer.attention == "kept":
            layer = replace(layer, hard_attention=hard_attention)
        for name in ("attention", "feed_forward") if rounds else ():
            layer = layer.in_int8(name) if getattr(layer, name) == "kept" else layer
        wanted.append(layer)
    check_plan(model, replace(plan_of(model), layers=tuple(wanted)))


def _check_untied(model: PreTrainedModel, positions: Mapping[str, object]) -> None:
    """Refuse weights that another module holds, too."""
    names: dict[nn.Parameter, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        other = names.setdefault(parameter, name)
        if other != name and (name in positions or other in positions):
            raise ValueError(f"Expected weights of its own at {name!r}, but it shares them with {other!r}. Untie them.")


def check_unshared(module: nn.Module, model: PreTrainedModel) -> None:
    """Refuse a model whose layers, or weights in them, are also part of something else in the module around it.

    Raises:
        ValueError: naming the two that share.
    """
    inside = {*model.modules()}
    names = {part: name for name, part in module.named_modules()}
    holders: dict[nn.Parameter, nn.Module] = {}
    parts = [*layer_modules(model), *(part for part in names if part not in inside)]
    for part in parts:
        for own in part.modules() if part in inside else [part]:
            for parameter in own._parameters.values():
                first = parameter is not None and holders.setdefault(parameter, own)
                if first and first is not own and first in inside:
                    raise _shared(names[first], names[own])
    layers = {own for layer in layer_modules(model) for own in layer.modules()}
    for part in names:
        around = model in set(part.modules()) or part in inside
        if isinstance(part, PreTrainedModel) and not around and not layers.isdisjoint(part.modules()):
            raise _shared(names[part], names[model])


def _shared(name: str, other: str) -> ValueError:
    return ValueError(
        f"Expected weights of its own at {name!r}, but it shares them with {other!r}, which would not be cut along."
        " Untie them (`copy.deepcopy`)."
    )


def _check_plain(model: PreTrainedModel, before: Sequence[LayerPlan], after: Sequence[LayerPlan]) -> None:
    """Refuse to cut linear layers that something wraps, or has cut already."""
    anatomy = anatomy_of(model)
    for i, (now, wanted) in enumerate(zip(before, after, strict=True)):
        for block in anatomy.blocks:
            left = block.left(now)
            if not left or (left == block.left(wanted) and block.kind not in set(wanted.int8) - set(now.int8)):
                continue
            for part, fused in (in_projections_of(model, anatomy, i, block) | {block.out_projection: 1}).items():
                name = anatomy.name(i, part)
                linear = model.get_submodule(name)
                kind = type(linear)
                if kind is not nn.Linear:
                    raise ValueError(
                        f"Expected a plain torch.nn.Linear at {name!r}, got {kind.__module__}.{kind.__name__}. Undo"
                        " what wraps it first (PEFT: `model = model.merge_and_unload()`; parametrizations:"
                        ' `torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")`; cut before'
                        " quantizing)."
                    )
                own = {name for name, _ in linear.named_parameters(recurse=False)}
                if "weight" not in own or own > {"weight", "bias"}:
                    raise ValueError(
                        f"Expected the parameters `weight` and `bias` at {name!r}, got {sorted(own)}: something has put"
                        " others in their place. Undo that first (`torch.nn.utils.prune.remove`, `remove_weight_norm`)."
                    )
                size = linear.in_features if part == block.out_projection else linear.out_features
                if size != (expected := fused * len(left) * block.width):
                    raise ValueError(
                        f"Expected {expected} features at {name!r}, got {size}: something else has cut the model."
                        " Apply plans to one and the same model, not to a part of it, too."
                    )
