"""Skipping the other tokens inside a ``with`` block, as the search does.

Shape suffixes: ``B`` batch, ``H`` heads, ``T`` tokens, ``C`` features, ``Q`` queries, ``K`` keys, ``D`` head's width.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from axformer_lightning import hard_attention
from axformer_lightning.anatomy import Anatomy, Family, LayerPlan, anatomy_of
from axformer_lightning.basics import first_tensor, replaced

IMPLEMENTATION = "axformer_first_query"


def top_layer(layers: Sequence[LayerPlan], num_heads: int) -> int | None:
    """Return the highest layer that has at least one of its ``num_heads`` heads left, or None if none has.

    Example:
        >>> top_layer([LayerPlan(), LayerPlan(), LayerPlan(heads_removed=(0, 1)), LayerPlan("removed")], num_heads=2)
        1
    """
    return max((i for i, layer in enumerate(layers) if layer.kept_heads(num_heads)), default=None)


@contextmanager
def reading_first_token(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> Iterator[None]:
    """Run ``model`` without the work that only other tokens than the first need.

    From the highest attending layer on, hidden states and attention weights of other tokens are void.

    Args:
        model: a model whose head reads nothing but the first token (see :func:`reads_first_token_only`).
        layers: what is left of each layer of ``model`` inside the block; more may be closed, but not less.

    Raises:
        ValueError: if ``layers`` does not have one entry per layer, or the family's row has no ``after_attention``.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=4, intermediate_size=16)
        >>> with reading_first_token(model := BertModel(config), [LayerPlan(), LayerPlan("removed")]):
        ...     model.encoder.layer[0](torch.ones(5, 7, 8)).shape
        torch.Size([5, 1, 8])
    """
    if len(layers) != (anatomy := anatomy_of(model)).num_layers:
        raise ValueError(f"Expected one LayerPlan for each of {anatomy.num_layers} layers, got {len(layers)}.")
    with skipping(model, anatomy, layers):
        yield


@contextmanager
def skipping(model: PreTrainedModel, anatomy: Anatomy, layers: Sequence[LayerPlan]) -> Iterator[None]:
    """Do as :func:`reading_first_token` for a model whose ``anatomy`` is known, and ``layers`` checked."""
    family, top = anatomy.family, top_layer(layers, anatomy.num_heads)
    if family.after_attention is None:
        raise ValueError(
            f"Expected a family whose row names `after_attention`, got {anatomy.model_type!r}, whose row does not."
            " Run the model without the first-token rule (`first_token_only=False`)."
        )
    with ExitStack() as undo:
        for i in range(top or 0, anatomy.num_layers):
            layer = model.get_submodule(anatomy.layers[i])
            undo.enter_context(layer.get_submodule(family.after_attention).register_forward_pre_hook(_cut))
            if layers[i].attention == "removed":
                continue
            attention = layer.get_submodule(family.self_attention)
            out_projection = layer.get_submodule(family.head_out_projection)
            if i == top:
                undo.enter_context(out_projection.register_forward_pre_hook(_cut))
                undo.callback(_query_first(layer, family))
                if family.attention_dropout is None:
                    _attend_first(attention, undo)
            else:  # without heads it only adds its bias, but its code fails for a single token
                inside = family.head_out_projection.startswith(f"{family.self_attention}.")
                undo.callback(replaced(attention, partial(_without_heads, out_projection, inside)))
        yield


def _cut(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Keep only the first token of every input that has tokens; the zero of a stand-in has none."""
    return tuple(x[:, :1] if isinstance(x, Tensor) and x.dim() == 3 else x for x in args)


def can_ask_once(layer: nn.Module, family: Family) -> bool:
    """Tell whether the query of the first token can be computed alone: whether its linear layer does nothing else.

    In a layer without projections of its own for relative positions, the query layer projects those, too.
    """
    return {name for name, _ in layer.named_modules()}.issuperset(family.optional_in_projections)


def _query_first(layer: nn.Module, family: Family) -> Callable[[], object]:
    name = family.head_in_projections[0]
    query, fused = layer.get_submodule(name), family.fused.get(name, 1)
    forward = query.forward
    if not can_ask_once(layer, family):
        pass
    elif fused == 1:
        forward = partial(_first_row, forward)
    elif type(query) is nn.Linear and "forward" not in vars(query):  # else only its wrapper knows its weights
        forward = partial(_first_row_of_query, query, query.out_features // fused)
    return replaced(query, forward)


def _first_row(forward: Callable[[Tensor], Tensor], x_BTC: Tensor) -> Tensor:
    return forward(x_BTC[:, :1]).expand(-1, x_BTC.shape[1], -1)


def _first_row_of_query(linear: nn.Linear, width: int, x_BTC: Tensor) -> Tensor:
    query_BTC = _first_row(partial(nn.functional.linear, weight=linear.weight[:width]), x_BTC)
    heads_BTC = torch.cat([query_BTC, nn.functional.linear(x_BTC, linear.weight[width:])], dim=-1)
    return heads_BTC if linear.bias is None else heads_BTC + linear.bias


def _attend_first(attention: Any, undo: ExitStack) -> None:
    before = attention.config
    if before._attn_implementation in (*hard_attention.BASES, hard_attention.IMPLEMENTATION):
        undo.callback(setattr, attention, "config", before)
        undo.callback(delattr, attention, "axformer_all_queries")
        attention.config, attention.axformer_all_queries = copy.copy(before), before
        attention.config._attn_implementation_internal = IMPLEMENTATION


def _attend(
    module: Any, query_BHQD: Tensor, key_BHKD: Tensor, value_BHKD: Tensor, mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Attend with the first query only, as ``module`` did before; its context is repeated for all others."""
    attend = hard_attention.attention_of(module, module.axformer_all_queries._attn_implementation)
    first = (query_BHQD[:, :, :1], key_BHKD, value_BHKD, None if mask is None else mask[:, :, :1])
    context_BQHD, weights_BHQK = attend(module, *first, **kwargs)
    return context_BQHD.expand(-1, query_BHQD.shape[2], -1, -1), weights_BHQK


# Without a mask function of its own: the model's own implementation, which keeps its name, makes the masks.
AttentionInterface.register(IMPLEMENTATION, _attend)


def _without_heads(out_projection: Any, inside: bool, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    x_BTC = first_tensor(*args, **kwargs)
    heads_B1C = x_BTC.new_zeros((x_BTC.shape[0], 1, out_projection.in_features))
    return out_projection(heads_B1C) if inside else heads_B1C, None
