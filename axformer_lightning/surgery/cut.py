"""Cutting a model to what a plan leaves of it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, Block, LayerPlan, anatomy_of, find_transformer, layers_left
from axformer_lightning.gates import stand_ins
from axformer_lightning.hard_attention import check_can_attend_hard, set_hard_attention_
from axformer_lightning.plan import Plan
from axformer_lightning.surgery.edits import Edit, Positions, keep
from axformer_lightning.surgery.original import remember_layers

M = TypeVar("M", bound=nn.Module)

# What the attention modules of transformers call the numbers that some of them reshape by.
HEAD_COUNTS = ("num_attention_heads", "num_heads", "n_heads")
WIDTHS = ("all_head_size",)


def apply_plan_(model: M, plan: Plan) -> M:
    """Cut ``model`` in place to what ``plan`` leaves of it, and switch its hard attention on.

    A removed attention or feed-forward block leaves ``LayerNorm(input)``; the norm stays. Every parameter that
    gets smaller is a new one, so an optimizer has to be told: inside Lightning the callbacks do that.

    Args:
        model: a Hugging Face model of a known family, or a module that holds exactly one.
        plan: what is to be left, in indices of the original model. What an earlier plan has cut already has to
            be among what it removes.

    Returns:
        ``model``.

    Raises:
        ValueError: if the plan was made for another model, or would bring back what is cut. The model is
            then unchanged.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> model = BertModel(config)
        >>> layers = (LayerPlan(heads_removed=(0, 3), neurons_removed=((4, 16),)),)
        >>> layer = apply_plan_(model, Plan("bert", 1, 4, 16, layers)).encoder.layer[0]
        >>> layer.attention.self.query, layer.output.dense
        (Linear(in_features=8, out_features=4, bias=True), Linear(in_features=4, out_features=8, bias=True))
    """
    cut_(find_transformer(model), plan)
    return model


def cut_(model: PreTrainedModel, plan: Plan) -> tuple[Edit, ...]:
    """Cut ``model`` as :func:`apply_plan_` does, and return what became of each parameter that was touched."""
    positions = check_plan(model, plan)
    anatomy, before = anatomy_of(model), layers_left(model)
    remember_layers(model)
    set_hard_attention_(model, plan.layers)
    edits = tuple(_replace_parameter(model, name, kept) for name, kept in positions.items())
    for i, (now, wanted) in enumerate(zip(before, plan.layers, strict=True)):
        for block in anatomy.blocks:
            if block.left(now) != block.left(wanted):
                _rebuild(model, anatomy, i, block, block.left(wanted))
    model.axformer_plan = plan  # type: ignore[assignment]
    return edits


def check_plan(model: PreTrainedModel, plan: Plan) -> dict[str, Positions | None]:
    """Raise what :func:`cut_` would raise, and return what it would keep of each parameter; nothing is changed."""
    plan.check_fits(anatomy_of(model))
    before = layers_left(model)
    positions = kept_positions(model, before, plan.layers)
    check_can_attend_hard(model, plan.layers)
    _check_plain(model, before, plan.layers)
    _check_untied(model, positions)
    return positions


def kept_positions(
    model: PreTrainedModel, before: Sequence[LayerPlan], after: Sequence[LayerPlan]
) -> dict[str, Positions | None]:
    """Return, for every parameter that differs between two cuts of ``model``, which of its entries stay.

    Args:
        model: gives the names; as ``before`` or as ``after`` describes it.
        before: what is left of each layer in the one.
        after: what is left of each layer in the other.

    Returns:
        For each parameter's name the kept entries by dimension, or None where the parameter goes. Parameters that
        ``model`` has no longer are left out.

    Raises:
        ValueError: if ``after`` holds what ``before`` lacks.
    """
    anatomy = anatomy_of(model)
    positions: dict[str, Positions | None] = {}
    for i, (now, wanted) in enumerate(zip(before, after, strict=True)):
        positions.update(_positions_of_layer(model, anatomy, i, now, wanted))
    return positions


def _positions_of_layer(
    model: PreTrainedModel, anatomy: Anatomy, i: int, now: LayerPlan, wanted: LayerPlan
) -> Iterator[tuple[str, Positions | None]]:
    for block in anatomy.blocks:
        had, wants = block.left(now), block.left(wanted)
        if block.keeps_more(wanted, now):
            raise ValueError(
                f"Expected a plan that removes at least what is cut already, but layers[{i}] keeps more of its"
                f" {block.kind} block than the model has. Apply the plan to the original model."
            )
        if had is None or had == wants:
            continue
        gone = tuple(block.modules) if wants is None else () if wants else block.without_units
        for part in gone:
            name = anatomy.name(i, part)
            yield from ((f"{name}.{own}", None) for own, _ in model.get_submodule(name).named_parameters())
        if wants is None:
            continue
        place = {unit: index for index, unit in enumerate(had)}
        kept = [place[unit] * block.width + offset for unit in wants for offset in range(block.width)]
        for name_in_layer, fused in _in_projections_of(model, anatomy, i, block).items():
            if name_in_layer.startswith(gone):
                continue
            name = anatomy.name(i, name_in_layer)
            rows = [part * len(had) * block.width + row for part in range(fused) for row in kept]
            yield from ((f"{name}.{own}", {0: rows}) for own, _ in model.get_submodule(name).named_parameters())
        yield f"{anatomy.name(i, block.out_projection)}.weight", {1: kept}


def _in_projections_of(model: PreTrainedModel, anatomy: Anatomy, i: int, block: Block) -> dict[str, int]:
    """Return the in-projections that a layer of this very model has."""
    parts = {name for name, _ in model.get_submodule(anatomy.layers[i]).named_modules()}
    return {name: fused for name, fused in block.in_projections.items() if name in parts or name not in block.optional}


def _rebuild(model: PreTrainedModel, anatomy: Anatomy, i: int, block: Block, left: list[int] | None) -> None:
    """Put stand-ins where modules are gone, and tell the rest how many heads there are."""
    if not left:
        for part, stub in stand_ins(block).items():
            if left is None or part in block.without_units:
                model.set_submodule(anatomy.name(i, part), stub.train(model.training))
    if block.kind == "attention" and left is not None:
        attention = model.get_submodule(anatomy.name(i, anatomy.family.self_attention))
        for names, count in ((HEAD_COUNTS, len(left)), (WIDTHS, len(left) * block.width)):
            for name in names:
                if hasattr(attention, name):
                    setattr(attention, name, count)
        bias = anatomy.family.position_bias
        if bias is not None:
            if not hasattr(attention, "axformer_heads"):
                attention.register_forward_pre_hook(partial(_pick_heads, place=bias))
            attention.axformer_heads = left  # type: ignore[assignment]


def _pick_heads(attention: nn.Module, args: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    """Hand the attention only those entries of a bias for every head whose heads are left."""
    bias_BHQK: Tensor | None = args[place]
    heads: list[int] = attention.axformer_heads  # type: ignore[assignment]
    return (*args[:place], None if bias_BHQK is None else bias_BHQK[:, heads], *args[place + 1 :])


def _replace_parameter(model: PreTrainedModel, name: str, kept: Positions | None) -> Edit:
    path, _, own = name.rpartition(".")
    linear = model.get_submodule(path)
    old: nn.Parameter = getattr(linear, own)
    if kept is None:
        return Edit(old, None, {})
    # Parameters made in inference mode (trainer.validate) could never be trained.
    with torch.inference_mode(False), torch.no_grad():
        new = nn.Parameter(keep(old.detach(), kept), requires_grad=old.requires_grad)
        if old.grad is not None:
            new.grad = keep(old.grad, kept)
    setattr(linear, own, new)
    if own == "weight":
        linear.out_features, linear.in_features = new.shape  # type: ignore[assignment]
    return Edit(old, new, kept)


def _check_untied(model: PreTrainedModel, positions: Mapping[str, object]) -> None:
    """Refuse weights that another module holds, too."""
    names: dict[nn.Parameter, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        other = names.setdefault(parameter, name)
        if other != name and (name in positions or other in positions):
            raise ValueError(f"Expected weights of its own at {name!r}, but it shares them with {other!r}. Untie them.")


def _check_plain(model: PreTrainedModel, before: Sequence[LayerPlan], after: Sequence[LayerPlan]) -> None:
    """Refuse to cut linear layers that something wraps, or has cut already."""
    anatomy = anatomy_of(model)
    for i, (now, wanted) in enumerate(zip(before, after, strict=True)):
        for block in anatomy.blocks:
            left = block.left(now)
            if not left or now == wanted:
                continue
            for part, fused in (_in_projections_of(model, anatomy, i, block) | {block.out_projection: 1}).items():
                name = anatomy.name(i, part)
                linear = model.get_submodule(name)
                kind = type(linear)
                if kind is not nn.Linear:
                    raise ValueError(
                        f"Expected a plain torch.nn.Linear at {name!r}, got {kind.__module__}.{kind.__name__}. Undo"
                        " what wraps it first (PEFT: `model = model.merge_and_unload()`; cut before quantizing)."
                    )
                size = linear.in_features if part == block.out_projection else linear.out_features
                if size != (expected := fused * len(left) * block.width):
                    raise ValueError(
                        f"Expected {expected} features at {name!r}, got {size}: something else has cut the model."
                        " Apply plans to one and the same model, not to a part of it, too."
                    )
