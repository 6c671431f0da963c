"""The table of the kinds of components that a search may change, one row each."""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from axformer_lightning.anatomy.layers import WORD_EMBEDDINGS, BlockRanges, HardAttention, LayerPlan

BLOCKS = ("attention", "feed_forward")  # of a layer, in the order in which they run
PhaseName = Literal["hard_attention", "pruning", "int8"]


@dataclass(frozen=True)
class SearchSpace:
    """What the indices of candidates stand for in one search.

    Args:
        num_heads: heads of an uncut layer.
        groups: the neuron groups, as half-open ranges of the intermediate dimension.
        hard_attention: settings for candidates of that kind, or None if there are none.
        int8_embeddings: whether the embeddings may be tried in int8.
        ladders: for each layer, by kind of block and number of units, what is left of the block. Where there are any,
            blocks are tried at these widths instead of without single parts.
        int8_ranges: for each layer, by kind of block, its ranges. Where there are any, int8 is static.
        layer: the layer that is looked at.
    """

    num_heads: int
    groups: tuple[tuple[int, int], ...]
    hard_attention: HardAttention | None = None
    int8_embeddings: bool = False
    ladders: tuple[Mapping[str, Mapping[int, LayerPlan]], ...] = field(default=(), hash=False)
    int8_ranges: tuple[Mapping[str, BlockRanges], ...] = field(default=(), hash=False)
    layer: int = 0

    @property
    def intermediate_size(self) -> int:
        """Neurons of an uncut layer."""
        return self.groups[-1][1]

    def at(self, layer: int) -> "SearchSpace":
        """Return the space as it is for one layer."""
        return replace(self, layer=layer)

    def ladder(self, kind: str) -> Mapping[int, LayerPlan]:
        """Return the widths of one block of the layer that is looked at."""
        return self.ladders[self.layer].get(kind, {}) if self.ladders else {}

    def ranges(self, kind: str) -> BlockRanges | None:
        """Return the ranges of one block of the layer that is looked at; None where int8 is dynamic."""
        return self.int8_ranges[self.layer].get(kind) if self.int8_ranges else None


@dataclass(frozen=True)
class Kind:
    """What search, plan and replay need to know about one kind of component.

    Args:
        block: the block of its layer that it changes, one of :data:`BLOCKS`, or the embeddings, of the first layer.
        offers: the indices that a layer still offers; ``[None]`` for a kind without an index.
        apply: returns the layer with the candidate of an index applied.
        units: the heads or neurons that an index closes; None for a kind that changes its block as a whole.
        parts: kind of the parts that are tried if a candidate is rejected narrowly.
        widths: kind that is tried instead, however it was rejected, where the space has ladders.
        phase: the phase of a search that tries it by itself; None for a kind that is only tried as a part.
        index_below: field of a plan that bounds the index; None for a kind without an index.
    """

    block: str
    offers: Callable[[LayerPlan, SearchSpace], Sequence[int | None]]
    apply: Callable[[LayerPlan, Any, SearchSpace], LayerPlan]
    units: Callable[[int, SearchSpace], Collection[int]] | None = None
    parts: str | None = None
    widths: str | None = None
    phase: PhaseName | None = None
    index_below: Literal["num_heads", "intermediate_size"] | None = None

    @property
    def steady(self) -> tuple[str, ...]:
        """The blocks of its layer that receive and compute the same with a candidate as without it.

        All that run before its own; its own, too, if only some of its units are closed, as those are subtracted
        afterwards.
        """
        if self.block not in BLOCKS:
            return ()
        own = BLOCKS.index(self.block)
        return BLOCKS[: own if self.units is None else own + 1]


@dataclass(frozen=True)
class Candidate:
    """One change that the search may make.

    Args:
        kind: the kind of component, a key of :data:`KINDS`.
        layer: index of the layer, 0 nearest the input.
        index: which part of its block; None for whole blocks and hard attention.

    Raises:
        ValueError: if a part has no index, or anything else has one.
    """

    kind: str
    layer: int
    index: int | None = None

    def __post_init__(self) -> None:
        if (self.index is None) != (KINDS[self.kind].index_below is None):
            raise ValueError(f"Expected an index for parts and for nothing else, got {self.index} for {self}.")

    def __str__(self) -> str:
        part = "" if self.index is None else f" {self.index}"
        return f"{self.kind}{part} of layer {self.layer}"

    def units(self, space: SearchSpace) -> Collection[int] | None:
        """Return the heads or neurons that it closes, in indices of the original model; None for a whole block.

        Example:
            >>> Candidate("neuron_group", 0, 1).units(SearchSpace(4, ((0, 8), (8, 16))))
            range(8, 16)
        """
        units = KINDS[self.kind].units
        return None if units is None or self.index is None else units(self.index, space.at(self.layer))


def _groups_left(layer: LayerPlan, space: SearchSpace) -> Sequence[int]:
    left = set(layer.kept_neurons(space.intermediate_size))
    return [g for g, (start, stop) in enumerate(space.groups) if not left.isdisjoint(range(start, stop))]


def _narrower(ladder: Mapping[int, LayerPlan], left: Sequence[int]) -> Sequence[int]:
    """Return the widths below the one that a block has, the narrowest first."""
    return sorted(width for width in ladder if width < len(left))


def _in_floats(layer: LayerPlan, part: str, is_there: object) -> Sequence[None]:
    """Return the one index of a part that is there and not in int8 yet."""
    return [None] if is_there and part not in layer.int8 else []


KINDS: dict[str, Kind] = {
    "hard_attention": Kind(
        block="attention",
        offers=lambda layer, space: [None] if layer.attention == "kept" and layer.hard_attention is None else [],
        apply=lambda layer, index, space: replace(layer, hard_attention=space.hard_attention),
        phase="hard_attention",
    ),
    "feed_forward": Kind(
        block="feed_forward",
        offers=lambda layer, space: [None] if layer.feed_forward == "kept" else [],
        apply=lambda layer, index, space: layer.without_feed_forward(),
        parts="neuron_group",
        widths="neurons_left",
        phase="pruning",
    ),
    "attention": Kind(
        block="attention",
        offers=lambda layer, space: [None] if layer.attention == "kept" else [],
        apply=lambda layer, index, space: layer.without_attention(),
        parts="head",
        widths="heads_left",
        phase="pruning",
    ),
    "head": Kind(
        block="attention",
        offers=lambda layer, space: layer.kept_heads(space.num_heads),
        apply=lambda layer, index, space: layer.without_head(index),
        units=lambda index, space: (index,),
        index_below="num_heads",
    ),
    "neuron_group": Kind(
        block="feed_forward",
        offers=_groups_left,
        apply=lambda layer, index, space: layer.without_neurons(*space.groups[index]),
        units=lambda index, space: range(*space.groups[index]),
        index_below="intermediate_size",
    ),
    "neurons_left": Kind(
        block="feed_forward",
        offers=lambda layer, space: _narrower(
            space.ladder("feed_forward"), layer.kept_neurons(space.intermediate_size)
        ),
        apply=lambda layer, index, space: replace(
            layer, neurons_removed=space.ladder("feed_forward")[index].neurons_removed
        ),
        units=lambda index, space: space.ladder("feed_forward")[index].removed_neurons(),
        index_below="intermediate_size",
    ),
    "heads_left": Kind(
        block="attention",
        offers=lambda layer, space: _narrower(space.ladder("attention"), layer.kept_heads(space.num_heads)),
        apply=lambda layer, index, space: replace(layer, heads_removed=space.ladder("attention")[index].heads_removed),
        units=lambda index, space: space.ladder("attention")[index].heads_removed,
        index_below="num_heads",
    ),
    "int8_embeddings": Kind(
        block=WORD_EMBEDDINGS,
        offers=lambda layer, space: _in_floats(layer, WORD_EMBEDDINGS, space.int8_embeddings and space.layer == 0),
        apply=lambda layer, index, space: layer.in_int8(WORD_EMBEDDINGS),
        phase="int8",
    ),
    "int8_feed_forward": Kind(
        block="feed_forward",
        offers=lambda layer, space: _in_floats(layer, "feed_forward", layer.kept_neurons(space.intermediate_size)),
        apply=lambda layer, index, space: layer.in_int8("feed_forward", space.ranges("feed_forward")),
        phase="int8",
    ),
    "int8_attention": Kind(
        block="attention",
        offers=lambda layer, space: _in_floats(layer, "attention", layer.kept_heads(space.num_heads)),
        apply=lambda layer, index, space: layer.in_int8("attention", space.ranges("attention")),
        phase="int8",
    ),
}


def neuron_groups(intermediate_size: int, num_groups: int) -> tuple[tuple[int, int], ...]:
    """Split the intermediate dimension into equal groups; if it does not divide evenly, the first ones get one more.

    Raises:
        ValueError: if there are no groups, or more groups than neurons.

    Example:
        >>> neuron_groups(14, 4)
        ((0, 4), (4, 8), (8, 11), (11, 14))
    """
    if not 1 <= num_groups <= intermediate_size:
        raise ValueError(
            f"Expected `neuron_groups` between 1 and the intermediate size {intermediate_size}, got {num_groups}."
            " If the size is not a multiple of it, the first groups get one neuron more."
        )
    size, more = divmod(intermediate_size, num_groups)
    starts = [g * size + min(g, more) for g in range(num_groups + 1)]
    return tuple(itertools.pairwise(starts))


def with_candidates(
    layers: tuple[LayerPlan, ...], candidates: Iterable[Candidate], space: SearchSpace
) -> tuple[LayerPlan, ...]:
    """Return ``layers`` with candidates applied, one after the other.

    Example:
        >>> with_candidates((LayerPlan(),), [Candidate("head", 0, 1)], SearchSpace(4, ((0, 16),)))[0].heads_removed
        (1,)
    """
    changed = list(layers)
    for candidate in candidates:
        changed[candidate.layer] = KINDS[candidate.kind].apply(
            changed[candidate.layer], candidate.index, space.at(candidate.layer)
        )
    return tuple(changed)
