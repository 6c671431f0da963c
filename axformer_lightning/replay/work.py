"""Counting the work that a search really does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from axformer_lightning.anatomy import Anatomy, Block, LayerPlan
from axformer_lightning.costs import block_macs


@dataclass
class Work:
    """The work of a model's layers, in tokens times layers; a layer run in part counts by its share.

    Args:
        layer_tokens: the work so far.
    """

    layer_tokens: float = 0.0

    def add(self, macs: float, per_token: float) -> None:
        """Count multiply-adds; an uncut layer does ``per_token`` for a token."""
        self.layer_tokens += macs / per_token


@dataclass(frozen=True)
class Computed:
    """Which blocks of each layer run, and for how many tokens.

    Args:
        anatomy: the model's parts.
        units: for each layer, the blocks that are computed and the number of their units.
        top: the lowest layer of which only the first token's output is computed, or None.
        asks_once: whether the query projection, too, is computed for the first token only; if not, only what follows
            the attention scores is.
    """

    anatomy: Anatomy
    units: Sequence[Mapping[Block, int]]
    top: int | None = None
    asks_once: bool = True

    @classmethod
    def of(
        cls,
        anatomy: Anatomy,
        before: Sequence[LayerPlan],
        layers: Sequence[LayerPlan],
        top: int | None,
        asks_once: bool,
    ) -> "Computed":
        """Return which blocks run while some are closed.

        Args:
            anatomy: the model's parts.
            before: what is left of each layer; all units of a block that is left are computed.
            layers: the same with candidates applied; a closed block is not computed.
            top: see the class.
            asks_once: see the class.
        """
        units = [
            {
                block: len(had)
                for block in anatomy.blocks
                if (had := block.left(now)) is not None and block.left(wanted) is not None
            }
            for now, wanted in zip(before, layers, strict=True)
        ]
        return cls(anatomy, units, top, asks_once)

    def macs(self, layer: int, block: Block, samples: int, tokens: int, hidden: int) -> int:
        """Return the multiply-adds of a block in a batch of ``samples``, 0 if it is not computed."""
        if block not in self.units[layer]:
            return 0
        read = 1 if self.top is not None and layer >= self.top else tokens
        asked = read if self.asks_once else tokens
        units = self.units[layer][block]
        return block_macs(self.anatomy, block, units, tokens, hidden, samples=samples, read=read, asked=asked)
