"""SKIP: where the head of a model reads the first token only, compute nothing else of the layers at the top.

Tokens mix in attention alone. So in the highest layer that attends, the keys and values of all tokens are needed, but
only the first token's query, context, output projection and feed-forward; above it only the first token. Where modules
of transformers reshape by the number of tokens, what is not computed keeps its place, void.

Shape suffixes: ``B`` batch, ``H`` heads, ``T`` tokens, ``C`` features, ``Q`` queries, ``K`` keys, ``D`` head's width.
"""

import copy
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, update_wrapper
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from axformer_lightning import hard_attention
from axformer_lightning.anatomy import Anatomy, Family, LayerPlan, anatomy_of, layers_left
from axformer_lightning.basics import replaced

IMPLEMENTATION = "axformer_first_query"
RULE = "axformer_first_token"  # where a model for which the rule is set keeps its anatomy
INNER = ("output_hidden_states", "output_attentions")  # ask for what the rule leaves void
_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


def top_layer(layers: Sequence[LayerPlan], num_heads: int) -> int | None:
    """Return the highest layer that has at least one of its ``num_heads`` heads left, or None if none has.

    Example:
        >>> top_layer([LayerPlan(), LayerPlan(), LayerPlan(heads_removed=(0, 1)), LayerPlan("removed")], num_heads=2)
        1
    """
    return max((i for i, layer in enumerate(layers) if layer.kept_heads(num_heads)), default=None)


@contextmanager
def reading_first_token(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> Iterator[None]:
    """Run ``model`` without what only matters to other tokens than the first.

    From the highest attending layer on, hidden states and attention weights of other tokens are void.

    Args:
        model: a model whose head reads nothing but the first token (see :func:`reads_first_token_only`).
        layers: what is left of each layer of ``model`` as it runs inside. More may be closed, but not less.

    Raises:
        ValueError: if ``layers`` has not one entry per layer, or the row of the family has no ``after_attention``.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=4, intermediate_size=16)
        >>> with reading_first_token(model := BertModel(config), [LayerPlan(), LayerPlan("removed")]):
        ...     model.encoder.layer[0](torch.ones(5, 7, 8)).shape
        torch.Size([5, 1, 8])
    """
    if len(layers) != (anatomy := anatomy_of(model)).num_layers:
        raise ValueError(f"Expected one LayerPlan for each of {anatomy.num_layers} layers, got {len(layers)}.")
    with _skipping(model, anatomy, layers):
        yield


def reads_first_token_only(model: PreTrainedModel, batch: Mapping[str, Any]) -> bool:
    """Tell whether the outputs of ``model`` depend on nothing but the first token of its last layer.

    They are computed twice, the second time with NaN in all other tokens. A bare encoder returns these: False.

    Args:
        model: a model of a known family.
        batch: what it is called with; samples of at least two tokens.

    Raises:
        ValueError: if samples have one token, or the family is unknown.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification, BertModel
        >>> config, batch = BertConfig(hidden_size=12, num_hidden_layers=1), {"input_ids": torch.tensor([[3, 5, 7]])}
        >>> [reads_first_token_only(cls(config), batch) for cls in (BertForSequenceClassification, BertModel)]
        [True, False]
    """
    if hasattr(model, RULE):
        return True
    outputs: list[Tensor] = []  # of the last layer, which may be applied several times
    applications = 0

    def spoil(layer: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        outputs.append(out[0] if isinstance(out, tuple) else out)
        if len(outputs) == 2 * applications:
            outputs[-1][:, 1:] = torch.nan

    def run() -> list[Tensor]:
        out = model(**batch)
        parts = out.values() if isinstance(out, Mapping) else out
        return [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]

    with ExitStack() as undo, torch.no_grad():
        undo.enter_context(torch.compiler.set_stance("force_eager"))  # a graph that is compiled knows no new hooks
        for module in model.modules():
            undo.callback(setattr, module, "training", module.training)
        model.eval()
        undo.enter_context(model.get_submodule(anatomy_of(model).layers[-1]).register_forward_hook(spoil))
        whole, applications = run(), len(outputs)
        if outputs[0].shape[1] < 2:
            raise ValueError("Expected samples of at least two tokens, got one, which tells nothing of others.")
        same = [torch.equal(x, y) and bool(y.isfinite().all()) for x, y in zip(whole, run(), strict=True)]
    return same != [] and all(same)


def set_first_token_(model: PreTrainedModel) -> None:
    """Let plain calls of ``model`` skip what its head does not read, from now on: for inference.

    A call runs whole while the model trains, where it or the config asks for ``output_hidden_states`` or
    ``output_attentions``, and under ``torch.compile``; ``torch.export`` takes the shorter way unless strict. Between
    calls the layers are untouched: gates, cuts, hard attention, ``state_dict`` and files know nothing of the rule.
    Calls from several threads take turns.

    Raises:
        ValueError: if the head reads more than the first token, or the row of the family has no ``after_attention``.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> model = BertForSequenceClassification(BertConfig(hidden_size=12, num_hidden_layers=1)).eval()
        >>> ids = torch.tensor([[3, 5, 7]])
        >>> before, _, after = model(ids), set_first_token_(model), model(ids)
        >>> torch.allclose(before.logits, after.logits)
        True
    """
    if hasattr(model, RULE):
        return
    with reading_first_token(model, layers_left(model)):
        pass  # raises where that is not possible
    if not reads_first_token_only(model, _small_batch(model)):
        raise ValueError(
            f"Expected a model whose head reads nothing but the first token of the last layer, got a"
            f" {type(model).__name__} that reads more. Run it without the first-token rule (`first_token_only=False`)."
        )
    setattr(model, RULE, anatomy_of(model))  # looked up once, as that takes as long as some layers do
    model.forward = update_wrapper(partial(_forward, model, model.forward), model.forward, ("__doc__",), ())


def _forward(model: PreTrainedModel, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if torch.compiler.is_dynamo_compiling():
        return forward(*args, **kwargs)
    with _LOCKS.setdefault(model, threading.RLock()):
        asked = [value for name in INNER for value in (kwargs.get(name), getattr(model.config, name, None))]
        if model.training or any(asked):
            return forward(*args, **kwargs)
        anatomy, plan = getattr(model, RULE), getattr(model, "axformer_plan", None)
        with _skipping(model, anatomy, anatomy.dense_layers() if plan is None else plan.layers):
            return forward(*args, **kwargs)


@contextmanager
def _skipping(model: PreTrainedModel, anatomy: Anatomy, layers: Sequence[LayerPlan]) -> Iterator[None]:
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
            else:  # it has no head and writes its bias, but would stumble over one token
                inside = family.head_out_projection.startswith(f"{family.self_attention}.")
                undo.callback(replaced(attention, partial(_without_heads, out_projection, inside)))
        yield


def _cut(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Leave the first token of every input that has tokens; the zero of a stand-in has none."""
    return tuple(x[:, :1] if isinstance(x, Tensor) and x.dim() == 3 else x for x in args)


def can_ask_once(layer: nn.Module, family: Family) -> bool:
    """Tell whether the query of the first token can be computed alone: whether its linear layer does nothing else.

    Where a layer lacks what would project relative positions, its query does that too.
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
    elif type(query) is nn.Linear and "forward" not in vars(query):  # else only what wraps it knows its weights
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
    """Attend with the first query only, as ``module`` did before; its context takes the place of all others."""
    eager = sys.modules[type(module).__module__].eager_attention_forward
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(module.axformer_all_queries._attn_implementation, eager)
    first = (query_BHQD[:, :, :1], key_BHKD, value_BHKD, None if mask is None else mask[:, :, :1])
    context_BQHD, weights_BHQK = attend(module, *first, **kwargs)
    return context_BQHD.expand(-1, query_BHQD.shape[2], -1, -1), weights_BHQK


# No mask function goes with it: masks are made by the model's own implementation, which keeps its name.
AttentionInterface.register(IMPLEMENTATION, _attend)


def _without_heads(out_projection: Any, inside: bool, x_BTC: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    heads_B1C = x_BTC.new_zeros((x_BTC.shape[0], 1, out_projection.in_features))
    return out_projection(heads_B1C) if inside else heads_B1C, None


def _small_batch(model: PreTrainedModel) -> dict[str, Tensor]:
    config = model.config
    if model.main_input_name == "pixel_values":
        size = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
        return {"pixel_values": torch.zeros(1, config.num_channels, *size, device=model.device)}
    # As many samples as tokens: that is also a sample of a multiple choice.
    ids = torch.ones(3, 3, dtype=torch.long, device=model.device)
    return {"input_ids": ids, "attention_mask": ids}
