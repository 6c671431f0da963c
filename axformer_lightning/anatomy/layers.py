"""What is left of one transformer layer, as data."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from axformer_lightning.basics import check_types

BlockState = Literal["kept", "removed"]
WORD_EMBEDDINGS = "embeddings"  # of words; in a plan they count to the first layer, which they feed
IN_INT8 = (WORD_EMBEDDINGS, "attention", "feed_forward")


@dataclass(frozen=True)
class HardAttention:
    """Settings of hard attention in one layer: each query keeps its ``k`` largest attention weights.

    Args:
        k: how many keys a query keeps.
        renormalize: whether the kept weights are scaled to sum to one (not so in the reference).

    Raises:
        ValueError: if ``k`` is no whole number of at least one.

    Example:
        >>> HardAttention(k=0)
        Traceback (most recent call last):
        ValueError: Expected hard attention to keep k >= 1 keys of each query, got k=0. ...
    """

    k: int = 30
    renormalize: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if self.k < 1:
            raise ValueError(
                f"Expected hard attention to keep k >= 1 keys of each query, got k={self.k}."
                " To switch hard attention off, pass `hard_attention=none` (train.py), leave out the"
                " callback (Lightning) or pass `hard_attention_k=None` (find_plan)."
            )


@dataclass(frozen=True)
class BlockRanges:
    """The ranges of a block in static int8: of what its linear layers read, measured beforehand.

    Args:
        block: attention or feed_forward.
        outer: the least and the largest of what its in-projections read, zero among them.
        inner: the same of what its out-projection reads.
    """

    block: str
    outer: tuple[float, float]
    inner: tuple[float, float]


@dataclass(frozen=True)
class LayerPlan:
    """What is left of one transformer layer, in indices of the original model.

    Args:
        attention: whether the attention block is kept.
        heads_removed: removed heads, ascending; empty where the whole block is removed.
        feed_forward: whether the feed-forward block is kept.
        neurons_removed: removed half-open ranges of the intermediate dimension, ascending and disjoint.
        hard_attention: settings of hard attention, or None for soft attention.
        int8: which blocks are in int8, in the order in which they run; in the first layer also ``"embeddings"``.
        int8_ranges: of those blocks that are in static int8; the others measure theirs in each call.
    """

    attention: BlockState = "kept"
    heads_removed: tuple[int, ...] = ()
    feed_forward: BlockState = "kept"
    neurons_removed: tuple[tuple[int, int], ...] = ()
    hard_attention: HardAttention | None = None
    int8: tuple[str, ...] = ()
    int8_ranges: tuple[BlockRanges, ...] = ()

    @property
    def is_hard(self) -> bool:
        """Whether the layer has an attention block, and that block hard attention."""
        return self.attention == "kept" and self.hard_attention is not None

    def kept_heads(self, num_heads: int) -> list[int]:
        """Return the heads that are left of ``num_heads``, ascending."""
        return [] if self.attention == "removed" else _others(num_heads, self.heads_removed)

    def kept_neurons(self, intermediate_size: int) -> list[int]:
        """Return the neurons that are left of ``intermediate_size``, ascending."""
        if self.feed_forward == "removed":
            return []
        return _others(intermediate_size, self.removed_neurons())

    def removed_neurons(self) -> list[int]:
        """Return the neurons that are gone from a block that is kept, ascending."""
        return [neuron for start, stop in self.neurons_removed for neuron in range(start, stop)]

    def without_attention(self) -> "LayerPlan":
        """Return this layer without its attention block."""
        return replace(self.in_floats("attention"), attention="removed", heads_removed=())

    def without_head(self, head: int) -> "LayerPlan":
        """Return this layer without one more head."""
        return replace(self, heads_removed=tuple(sorted({*self.heads_removed, head})))

    def without_feed_forward(self) -> "LayerPlan":
        """Return this layer without its feed-forward block."""
        return replace(self.in_floats("feed_forward"), feed_forward="removed", neurons_removed=())

    def in_int8(self, part: str, ranges: BlockRanges | None = None) -> "LayerPlan":
        """Return this layer with one more of :data:`IN_INT8` in int8; with ``ranges``, in static int8.

        Example:
            >>> LayerPlan().in_int8("feed_forward").in_int8("attention").int8
            ('attention', 'feed_forward')
        """
        kept = [*self.in_floats(part).int8_ranges, *([] if ranges is None else [ranges])]
        return replace(
            self,
            int8=tuple(name for name in IN_INT8 if name in (*self.int8, part)),
            int8_ranges=tuple(sorted(kept, key=lambda known: IN_INT8.index(known.block))),
        )

    def in_floats(self, part: str) -> "LayerPlan":
        """Return this layer with one of :data:`IN_INT8` in floats."""
        return replace(
            self,
            int8=tuple(name for name in self.int8 if name != part),
            int8_ranges=tuple(ranges for ranges in self.int8_ranges if ranges.block != part),
        )

    def ranges_of(self, block: str) -> BlockRanges | None:
        """Return the ranges of a block; None where it has none."""
        return next((ranges for ranges in self.int8_ranges if ranges.block == block), None)

    def without_neurons(self, start: int, stop: int) -> "LayerPlan":
        """Return this layer without the neurons of one more half-open range; touching ranges are joined.

        Example:
            >>> LayerPlan().without_neurons(8, 16).without_neurons(0, 8).neurons_removed
            ((0, 16),)
        """
        joined: list[tuple[int, int]] = []
        for first, last in sorted([*self.neurons_removed, (start, stop)]):
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
            else:
                joined.append((first, last))
        return replace(self, neurons_removed=tuple(joined))


def _others(count: int, removed: Iterable[int]) -> list[int]:
    gone = set(removed)
    return [i for i in range(count) if i not in gone]
