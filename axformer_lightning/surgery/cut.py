"""Cutting a model to what a plan leaves of it."""

import logging
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import (
    Anatomy,
    Block,
    anatomy_of,
    find_transformer,
    layers_left,
)
from axformer_lightning.costs import count_parameters
from axformer_lightning.gates import stand_ins
from axformer_lightning.hard_attention import check_can_attend_hard, set_hard_attention_
from axformer_lightning.int8 import check_can_be_int8, set_int8_
from axformer_lightning.plan import Plan, applied_plan
from axformer_lightning.surgery.checks import check_plan
from axformer_lightning.surgery.edits import Edit, keep
from axformer_lightning.surgery.original import remember_layers, restore_layers_
from axformer_lightning.surgery.positions import Positions
from axformer_lightning.surgery.travelling import KEY, add_plan, plans_in

logger = logging.getLogger(__name__)
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
        TypeError: if what is given is no plan.

    Example:
        >>> from axformer_lightning.anatomy import LayerPlan
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> model = BertModel(config)
        >>> layers = (LayerPlan(heads_removed=(0, 3), neurons_removed=((4, 16),)),)
        >>> layer = apply_plan_(model, Plan("bert", 1, 4, 16, layers)).encoder.layer[0]
        >>> layer.attention.self.query, layer.output.dense
        (Linear(in_features=8, out_features=4, bias=True), Linear(in_features=4, out_features=8, bias=True))
    """
    if not isinstance(plan, Plan):
        raise TypeError(f"Expected a Plan, got {type(plan).__name__}. `Plan.load(path)` reads one from a file.")
    transformer = find_transformer(model)
    if plan.repaired and layers_left(transformer) != plan.layers:
        logger.warning(
            "The plan belongs to a model whose weights were repaired after the cut, and holds no weights: this model is"
            " cut, not repaired. Load the artifact instead, by `load_pretrained`."
        )
    cut_(transformer, plan)
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
    set_int8_(model, plan.layers)
    let_plan_travel(model)
    return edits


def is_cut_further(model: PreTrainedModel, plan: Plan | None) -> bool:
    """Tell whether a model lacks something that ``plan`` keeps; None keeps all."""
    now = applied_plan(model)
    return now is not None and (plan is None or not plan.removes_all_of(now))


def check_can_become(model: PreTrainedModel, plan: Plan) -> None:
    """Raise what :func:`bring_to_` would raise; nothing is changed."""
    plan.check_fits(anatomy_of(model))
    if not is_cut_further(model, plan):
        check_plan(model, plan)
        return
    check_can_attend_hard(model, plan.layers)
    check_can_be_int8(model, plan.layers)


def bring_to_(model: PreTrainedModel, plan: Plan | None) -> None:
    """Bring a model into the shape that ``plan`` leaves, also a larger one, for weights that are loaded afterwards.

    Raises:
        ValueError: as :func:`apply_plan_`. The model is then unchanged.
    """
    if plan is not None:
        check_can_become(model, plan)
    is_brought_back, before = is_cut_further(model, plan), count_parameters(model)
    if is_brought_back:
        restore_layers_(model)
    if plan is not None and applied_plan(model) != plan:
        cut_(model, plan)
    if is_brought_back:
        what = "The checkpoint is from before a cut and brings back what was removed from %s: %d parameters become %d."
        logger.warning(what, type(model).__name__, before, count_parameters(model))


def _take_plan(model: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Bring a model into the shape of the state that it loads; a hook of torch, which copies the state first."""
    assert isinstance(model, PreTrainedModel)
    plan = plans_in({KEY: told} if (told := state.pop(prefix + KEY, None)) is not None else {}).get("")
    if plan is not None and plan != applied_plan(model):
        bring_to_(model, plan)


def let_plan_travel(model: PreTrainedModel, *, travels: bool = True) -> None:
    """Let the `state_dict` of a cut model hold its plan, and let the model follow the plan in one that it loads.

    Args:
        model: that was cut.
        travels: False takes the plan out of the `state_dict`, for a time.
    """
    hooks = model._state_dict_hooks
    if not travels:
        for key in [key for key, hook in hooks.items() if hook is add_plan]:
            del hooks[key]
    elif add_plan not in hooks.values():
        model.register_state_dict_post_hook(add_plan)
        if _take_plan not in [getattr(hook, "hook", hook) for hook in model._load_state_dict_pre_hooks.values()]:
            model.register_load_state_dict_pre_hook(_take_plan)


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
        return Edit(old, None, {}, name)
    # Parameters made in inference mode (trainer.validate) could never be trained.
    with torch.inference_mode(False), torch.no_grad():
        new = nn.Parameter(keep(old.detach(), kept), requires_grad=old.requires_grad)
        if old.grad is not None:
            new.grad = keep(old.grad, kept)
    setattr(linear, own, new)
    if own == "weight":
        linear.out_features, linear.in_features = new.shape  # type: ignore[assignment]
    return Edit(old, new, kept, name)
