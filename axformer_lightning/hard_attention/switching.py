"""Which layers of a model attend hard, layer by layer, reversibly.

transformers looks its attention function up by a name in the config *that the attention module holds*. A hard
layer therefore gets a copy of the config that names our function. The model's own config stays as it is, and so do
masks, other layers and ``save_pretrained``: padding is masked as usual, and a later
``set_attn_implementation("eager" | "sdpa")`` does not switch hard attention off.

In families that do not use that interface, one module receives the attention weights and nothing else: the dropout.
A hard layer has a :class:`TopKDropout` in its place.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from axformer_lightning.anatomy import HardAttention, LayerPlan, anatomy_of
from axformer_lightning.hard_attention.attention import TopKDropout, check_base, top_k_attention

IMPLEMENTATION = "axformer_top_k"

# Without a mask function of its own: the model's own implementation, which keeps its name, makes the masks.
AttentionInterface.register(IMPLEMENTATION, top_k_attention)


def check_can_attend_hard(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> None:
    """Raise unless ``model`` can have hard attention where ``layers`` say so.

    Raises:
        ValueError: if a layer is to be hard and the attention implementation is neither eager nor sdpa.
    """
    if any(layer.hard_attention for layer in layers):
        check_base(model.config._attn_implementation)


def set_hard_attention_(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> None:
    """Switch hard attention on or off in every layer of ``model``, as ``layers`` say.

    Raises:
        ValueError: if a layer is to be hard and the attention implementation is neither eager nor sdpa.
    """
    check_can_attend_hard(model, layers)
    anatomy = anatomy_of(model)
    dropout = anatomy.family.attention_dropout
    for i, layer in enumerate(layers):
        if not layer.kept_heads(anatomy.num_heads):
            continue  # nothing attends there
        if dropout is None:
            _set_hard(model.get_submodule(anatomy.name(i, anatomy.family.self_attention)), layer.hard_attention)
        else:
            _set_hard_dropout(model, anatomy.name(i, dropout), layer.hard_attention)


@contextmanager
def attending(model: PreTrainedModel, layers: Sequence[LayerPlan], before: Sequence[LayerPlan]) -> Iterator[None]:
    """Run ``model`` with the hard attention of ``layers``, and restore that of ``before`` afterwards."""
    set_hard_attention_(model, layers)
    try:
        yield
    finally:
        set_hard_attention_(model, before)


@contextmanager
def eager_attention(model: PreTrainedModel) -> Iterator[None]:
    """Run ``model`` with eager attention in every layer, so that soft and hard layers share their kernels.

    Hard attention has to compute its weights. If soft layers ran sdpa, a hard layer that changes nothing would differ
    from them by rounding, and rounding would decide a strict comparison of losses. Masks of booleans that a caller has
    made for sdpa keep their meaning: eager attention would add them as 0 and 1.
    """
    before = model.config._attn_implementation
    adding = model.base_model.register_forward_pre_hook(_add_booleans, with_kwargs=True) if before == "sdpa" else None
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        if adding is not None:
            adding.remove()


def _add_booleans(model: PreTrainedModel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    def added(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dtype == torch.bool and value.dim() == 4:
            lowest = torch.finfo(model.dtype).min
            return torch.zeros_like(value, dtype=model.dtype).masked_fill(~value, lowest)
        return value

    return tuple(map(added, args)), {name: added(value) for name, value in kwargs.items()}


def _set_hard(attention: nn.Module, settings: HardAttention | None) -> None:
    # The first-token rule, which may be in force here, has put another config in the place of the shared one.
    shared = getattr(attention, "axformer_config", getattr(attention, "axformer_all_queries", attention.config))
    if settings is None:
        attention.config = shared
        for name in ("axformer_config", "axformer_hard_attention"):
            attention.__dict__.pop(name, None)
        return
    own = copy.copy(shared)
    own._attn_implementation_internal = IMPLEMENTATION  # type: ignore[union-attr]
    attention.config = own
    attention.axformer_config = shared
    attention.axformer_hard_attention = settings  # type: ignore[assignment]


def _set_hard_dropout(model: PreTrainedModel, name: str, settings: HardAttention | None) -> None:
    now = model.get_submodule(name)
    if isinstance(now, TopKDropout):
        if settings is None:
            model.set_submodule(name, now.soft)
        else:
            now.axformer_hard_attention = settings
    elif settings is not None:
        model.set_submodule(name, TopKDropout(now, settings))
