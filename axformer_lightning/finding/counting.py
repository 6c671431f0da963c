"""Counting the multiply-adds that a search really runs.

Shape suffixes: ``B`` batch, ``T`` tokens, ``C`` features.
"""

import math
from collections.abc import Collection, Sequence

from torch import Tensor

from axformer_lightning.anatomy import Anatomy, Block, LayerPlan


class Work:
    """What the layers of a model have run, in tokens times layers; a layer run in part counts by its share.

    Args:
        anatomy: the model's parts.

    Attributes:
        layer_tokens: the work so far.
    """

    def __init__(self, anatomy: Anatomy) -> None:
        self.anatomy = anatomy
        self.layer_tokens = 0.0
        self._dense = anatomy.dense_layers()
        self.turn_to(self._dense, self._dense, None)

    def turn_to(
        self, before: Sequence[LayerPlan], layers: Sequence[LayerPlan], top: int | None, asks_once: bool = True
    ) -> None:
        """Say what runs from now on.

        Args:
            before: what is left of each layer; of a block that is there every unit is computed.
            layers: likewise with what is closed; a closed block is not computed.
            top: the layer from whose queries on only the first token is computed, or None.
            asks_once: whether the queries themselves are; else it is from the attention weights on.
        """
        self._top, self._asks_once = top, asks_once
        self._units: list[dict[Block, int]] = [
            {
                block: len(units) * block.width
                for block in self.anatomy.blocks
                if (units := block.left(now)) is not None and block.left(wanted) is not None
            }
            for now, wanted in zip(before, layers, strict=True)
        ]

    def see_tokens(self, x_BTC: Tensor) -> None:
        """Say how long the samples are that the layers are given now."""
        *_, self._tokens, self._hidden = x_BTC.shape
        self._of_a_token = multiply_adds(self.anatomy, self._tokens)

    def run_layer(self, layer: int, x_BTC: Tensor, recalled: Collection[str]) -> None:
        """Count one run of a layer, but for the blocks whose results are ``recalled``."""
        rows = math.prod(x_BTC.shape[:-2])
        for block, features in self._units[layer].items():
            if block.kind not in recalled:
                self.add(rows * self._of_block(block, features, layer))

    def add(self, multiply_adds: float) -> None:
        """Count multiply-adds."""
        self.layer_tokens += multiply_adds / self._of_a_token

    def _of_block(self, block: Block, features: int, layer: int) -> int:
        """Return the multiply-adds of a block in one sample."""
        tokens = self._tokens
        asked = 1 if self._top is not None and layer >= self._top else tokens  # those whose result anything reads
        if block.kind == "feed_forward":
            return asked * self._hidden * features * block.num_linears
        queries = asked if self._asks_once else tokens
        linears = tokens * (block.num_linears - 2) + queries + asked  # keys and values, queries, the writer
        scores = tokens * (asked if self.anatomy.family.attention_dropout is None else tokens)
        return features * (self._hidden * linears + 2 * scores)


def multiply_adds(anatomy: Anatomy, tokens: int) -> float:
    """Return the multiply-adds of an uncut layer's matrix products, per token, in a sequence of ``tokens``.

    Example:
        >>> from axformer_lightning.anatomy import BERT
        >>> multiply_adds(Anatomy("bert", BERT, ("layer.0",), 4, 2, 16), tokens=10)
        672.0
    """
    hidden = heads = anatomy.num_heads * anatomy.head_size
    attention, feed_forward = anatomy.blocks
    linears = attention.num_linears * heads + feed_forward.num_linears * anatomy.intermediate_size
    return float(hidden * linears + 2 * tokens * heads)
