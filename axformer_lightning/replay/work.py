"""Counting the work that a search really runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from axformer_lightning.anatomy import Anatomy, Block, LayerPlan
from axformer_lightning.costs import block_macs


@dataclass
class Work:
    """What the layers of a model have run, in tokens times layers; a layer run in part counts by its share.

    Args:
        layer_tokens: the work so far.
    """

    layer_tokens: float = 0.0

    def add(self, macs: float, per_token: float) -> None:
        """Count multiply-adds, of which an uncut layer does ``per_token`` for a token."""
        self.layer_tokens += macs / per_token


@dataclass(frozen=True)
class Computed:
    """Which blocks of each layer run, and for how many tokens.

    Args:
        anatomy: the model's parts.
        units: for each layer, the blocks that are computed and the number of their units.
        top: the layer from whose queries on only the first token is computed, or None.
        asks_once: whether the queries themselves are; else it is from the attention weights on.
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
        """Return what runs while blocks are closed.

        Args:
            anatomy: the model's parts.
            before: what is left of each layer; of a block that is there every unit is computed.
            layers: likewise with what is closed; a closed block is not computed.
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
        """Return the multiply-adds of a block in a batch of ``samples``, 0 where it is not computed."""
        if block not in self.units[layer]:
            return 0
        read = 1 if self.top is not None and layer >= self.top else tokens
        asked = read if self.asks_once else tokens
        units = self.units[layer][block]
        return block_macs(self.anatomy, block, units, tokens, hidden, samples=samples, read=read, asked=asked)
