"""The cache between evaluations: layer outputs, and the units and results of blocks.

Everything is cached per batch and, if a step calls the model several times, per call, under a key that says which
candidates it was computed with. An entry with another key counts as absent, so nothing ever has to be invalidated.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

SHARE_OF_FREE_MEMORY = 4  # a quarter of it
EMBEDDINGS = -1  # as if they were the layer below the first


@dataclass
class _Kept:
    key: Hashable
    calls: list[Any] = field(default_factory=list)
    size: int = 0


class Records:
    """Layer outputs of the accepted model within a memory budget; if they do not fit, those of every n-th layer.

    The output of the embeddings saves least, and is dropped first.

    Blocks get the memory that the layers leave free, batch by batch; only those of one layer are kept at a time.

    Args:
        budget: bytes.
        num_layers: layers of the model; the output of the last is never needed.

    Attributes:
        stride: the output of one layer in this many is kept.
        used: bytes in use.
        peak: the most bytes ever in use.
    """

    def __init__(self, budget: int, num_layers: int) -> None:
        self.budget = budget
        self.num_layers = num_layers
        self.stride = 1
        self.used = self.peak = 0
        self._keeps_embeddings = True
        self._layers: dict[tuple[int, int], _Kept] = {}
        self._blocks: dict[tuple[int, str], _Kept] = {}
        self._blocks_of: int | None = None

    def keeps(self, layer: int) -> bool:
        """Tell whether the output of ``layer`` is one of those that are kept."""
        if layer == EMBEDDINGS:
            return self.budget > 0 and self._keeps_embeddings
        return self.budget > 0 and layer < self.num_layers - 1 and (layer + 1) % self.stride == 0

    def keep_layer(self, batch: int, layer: int, key: Hashable, call: int, output: Any) -> None:
        """Keep what ``layer`` returned in one call."""
        if not self.keeps(layer):
            return
        self._add(self._layers, (batch, layer), key, call, output)
        while self.used > self.budget and self.stride < self.num_layers:
            if self._keeps_embeddings:
                self._keeps_embeddings = False
            else:
                self.stride *= 2  # so that the layers that stay are among those kept so far
            for index in [index for index in self._layers if not self.keeps(index[1])]:
                self.used -= self._layers.pop(index).size

    def layer(self, batch: int, layer: int, key: Hashable, num_calls: int) -> list[Any] | None:
        """Return what ``layer`` returned in every call, or None if that was not kept."""
        return _complete(self._layers.get((batch, layer)), key, num_calls)

    def keep_block(
        self, batch: int, layer: int, kind: str, key: Hashable, call: int, values: tuple[Tensor, ...]
    ) -> None:
        """Keep ``values`` of one call of a block, if they fit."""
        self._turn_to(layer)
        values = tuple(_alone(value) for value in values)
        if self.used + size_of(values) <= self.budget:
            self._add(self._blocks, (batch, kind), key, call, values)

    def block(self, batch: int, layer: int, kind: str, key: Hashable, num_calls: int) -> list[Any] | None:
        """Return the values of a block in every call, or None if they were not kept."""
        return _complete(self._blocks.get((batch, kind)), key, num_calls) if layer == self._blocks_of else None

    def _turn_to(self, layer: int) -> None:
        if layer != self._blocks_of:
            self.used -= sum(kept.size for kept in self._blocks.values())
            self._blocks.clear()
            self._blocks_of = layer

    def _add(self, records: dict[Any, _Kept], index: Any, key: Hashable, call: int, value: Any) -> None:
        kept = records.get(index)
        if call == 0 or kept is None or kept.key != key or len(kept.calls) != call:
            self.used -= records.pop(index).size if kept else 0
            if call > 0:
                return  # an earlier call was not kept, so this one is useless
            kept = records[index] = _Kept(key)
        kept.calls.append(value)
        kept.size += size_of(value)
        self.used += size_of(value)
        self.peak = max(self.peak, self.used)


def free_memory(device: torch.device) -> int:
    """Return how many bytes are free on the device of a model."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _complete(kept: _Kept | None, key: Hashable, num_calls: int) -> list[Any] | None:
    return kept.calls if kept is not None and kept.key == key and len(kept.calls) == num_calls else None


def _alone(value: Tensor) -> Tensor:
    """Return ``value`` without the rest of the memory that it is a view of."""
    return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value


def size_of(values: Any) -> int:
    """Return the bytes of all tensors in ``values``.

    Example:
        >>> size_of([{"x": torch.zeros(2)}, "text"])
        8
    """
    return sum(leaf.nbytes for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
