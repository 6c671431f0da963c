"""The entries of a plan: layers and decisions, checked and read from JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

from axformer_lightning.anatomy import IN_INT8, KINDS, WORD_EMBEDDINGS, BlockRanges, HardAttention, LayerPlan
from axformer_lightning.basics.reading import names_of, read_count, read_fields, read_list, read_number, read_typed


@dataclass(frozen=True)
class Decision:
    """One candidate and what became of it.

    Args:
        round: round of search, from 1.
        kind: what was tried.
        layer: index of the layer.
        index: head or neuron group, None for whole blocks and hard attention.
        loss: mean loss on the search set, None if the candidate was stopped early.
        share_not_worse: share of samples with a loss not above the fine-tuned model's, None if stopped early.
        best_before: mean loss of the model with everything accepted before.
        accepted: the decision.
        samples_seen: samples evaluated.
        metric: the rule's metric on the search set; None without one, if the candidate was stopped early, or if the
            metric is no finite number.
        metric_before: that of the model with everything accepted before.
        encoder_parameters: parameters of the layers with the candidate and everything accepted before; None in plans
            of version 1.
    """

    round: int
    kind: str
    layer: int
    index: int | None
    loss: float | None
    share_not_worse: float | None
    best_before: float
    accepted: bool
    samples_seen: int
    metric: float | None = None
    metric_before: float | None = None
    encoder_parameters: int | None = None


def check_layer(layer: LayerPlan, where: str, num_heads: int, intermediate_size: int) -> None:
    """Raise unless a layer is possible in a model of these sizes."""
    for state, parts, names in (
        (layer.attention, layer.heads_removed, ("attention", "heads_removed")),
        (layer.feed_forward, layer.neurons_removed, ("feed_forward", "neurons_removed")),
    ):
        if state not in ("kept", "removed"):
            raise ValueError(f"Expected {where}.{names[0]} to be 'kept' or 'removed', got {short(state)}.")
        if state == "removed" and parts:
            raise ValueError(f"Expected {where}.{names[1]} to be empty where the block is removed, got {list(parts)}.")
    heads = list(layer.heads_removed)
    if heads != sorted(set(heads)) or not all(0 <= head < num_heads for head in heads):
        raise ValueError(
            f"Expected {where}.heads_removed to be ascending, different heads of 0..{num_heads - 1}, got {heads}."
        )
    last = 0
    for start, stop in layer.neurons_removed:
        if not last <= start < stop <= intermediate_size:
            raise ValueError(
                f"Expected {where}.neurons_removed to be ascending ranges of 0..{intermediate_size} that do not"
                f" overlap, got {[list(pair) for pair in layer.neurons_removed]}."
            )
        last = stop


def check_int8(layer: LayerPlan, where: str, *, is_first: bool) -> None:
    """Raise unless what a layer has in int8 is there, and its ranges are those of such blocks."""
    possible = [name for name in IN_INT8 if (is_first if name == WORD_EMBEDDINGS else getattr(layer, name) == "kept")]
    if list(layer.int8) != [name for name in possible if name in layer.int8]:
        raise ValueError(f"Expected {where}.int8 to hold some of {possible}, in this order, got {list(layer.int8)}.")
    ranged = [ranges.block for ranges in layer.int8_ranges]
    can = [name for name in layer.int8 if name != WORD_EMBEDDINGS]
    if ranged != [name for name in can if name in ranged]:
        raise ValueError(f"Expected {where}.int8_ranges to hold some of {can}, in this order, got {ranged}.")
    for ranges in layer.int8_ranges:
        for least, most in (ranges.outer, ranges.inner):
            if not least <= 0 <= most:
                raise ValueError(
                    f"Expected {where}.int8_ranges to hold ranges around zero, got {[least, most]} of the"
                    f" {ranges.block} block."
                )


def check_decision(decision: Decision, where: str, num_layers: int, num_heads: int, intermediate_size: int) -> None:
    """Raise unless a decision is possible in a model of these sizes."""
    if not 0 <= decision.layer < num_layers:
        raise ValueError(f"Expected {where} in layers 0..{num_layers - 1}, got {decision.layer}.")
    below = KINDS[decision.kind].index_below
    count = {"num_heads": num_heads, "intermediate_size": intermediate_size, None: None}[below]
    if (decision.index is None) != (count is None) or not 0 <= (decision.index or 0) < (count or 1):
        wanted = "null" if count is None else f"one of 0..{count - 1}"
        raise ValueError(f"Expected {where}.index of a {decision.kind} to be {wanted}, got {decision.index}.")


def read_layer(data: object, where: str) -> LayerPlan:
    """Return the layer that a JSON object describes."""
    item = read_fields(data, where, names_of(LayerPlan))
    hard = item["hard_attention"]
    if hard is not None:
        values = read_fields(hard, f"{where}.hard_attention", names_of(HardAttention))
        hard = HardAttention(
            read_count(values["k"], f"{where}.hard_attention.k", 1),
            read_typed(values["renormalize"], bool, f"{where}.hard_attention.renormalize"),
        )
    heads, neurons = f"{where}.heads_removed", f"{where}.neurons_removed"
    ranges = []
    for pair in read_list(item["neurons_removed"], neurons):
        if len(read_list(pair, neurons)) != 2:
            raise ValueError(f"Expected {neurons} to hold pairs [start, stop], got {short(pair)}.")
        ranges.append((read_count(pair[0], neurons), read_count(pair[1], neurons)))
    return LayerPlan(
        attention=item["attention"],
        heads_removed=tuple(read_count(head, heads) for head in read_list(item["heads_removed"], heads)),
        feed_forward=item["feed_forward"],
        neurons_removed=tuple(ranges),
        hard_attention=hard,
        int8=tuple(read_typed(name, str, f"{where}.int8") for name in read_list(item["int8"], f"{where}.int8")),
        int8_ranges=tuple(
            _read_ranges(ranges, f"{where}.int8_ranges")
            for ranges in read_list(item["int8_ranges"], f"{where}.int8_ranges")
        ),
    )


def _read_ranges(data: object, where: str) -> BlockRanges:
    item = read_fields(data, where, names_of(BlockRanges))
    pairs = []
    for name in ("outer", "inner"):
        if len(read_list(item[name], where)) != 2:
            raise ValueError(f"Expected {where} to hold pairs [least, most], got {short(item[name])}.")
        least, most = (read_number(value, where) for value in item[name])
        pairs.append((least, most))
    return BlockRanges(read_typed(item["block"], str, where), *pairs)


def read_decision(data: object, where: str) -> Decision:
    """Return the decision that a JSON object describes."""
    item = read_fields(data, where, names_of(Decision))
    if item["kind"] not in list(KINDS):  # a list, as what a file holds may not be hashable
        raise ValueError(f"Expected {where}.kind to be one of {list(KINDS)}, got {short(item['kind'])}.")
    parameters = item["encoder_parameters"]
    return Decision(
        round=read_count(item["round"], f"{where}.round", 1),
        kind=item["kind"],
        layer=read_count(item["layer"], f"{where}.layer"),
        index=None if item["index"] is None else read_count(item["index"], f"{where}.index"),
        loss=_number_or_none(item, "loss", where),
        share_not_worse=_number_or_none(item, "share_not_worse", where),
        best_before=read_number(item["best_before"], f"{where}.best_before"),
        accepted=read_typed(item["accepted"], bool, f"{where}.accepted"),
        samples_seen=read_count(item["samples_seen"], f"{where}.samples_seen"),
        metric=_number_or_none(item, "metric", where),
        metric_before=_number_or_none(item, "metric_before", where),
        encoder_parameters=None if parameters is None else read_count(parameters, f"{where}.encoder_parameters"),
    )


def _number_or_none(item: Mapping[str, Any], name: str, where: str) -> float | None:
    value = item[name]
    return None if value is None else read_number(value, f"{where}.{name}")
