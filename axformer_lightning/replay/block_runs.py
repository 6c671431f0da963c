"""Running a block without some of its heads or neurons, which are subtracted from its output.

Shape suffixes: ``B`` batch, ``T`` tokens, ``C`` features.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from axformer_lightning.anatomy import Block
from axformer_lightning.basics import replaced
from axformer_lightning.gates import stand_ins

Features = slice | Tensor
Known = tuple[Tensor, Tensor]  # the units of a block, and its output with everything accepted so far
Undo = Callable[[], object]


def features_of(block: Block, units: Sequence[int], gone: Collection[int]) -> Features:
    """Return which inputs of the block's out-projection belong to the units that are ``gone``.

    Args:
        block: the block.
        units: the units that it has.
        gone: those to leave out.
    """
    at = [position for position, unit in enumerate(units) if unit in gone]
    if at[-1] - at[0] + 1 == len(at):
        return slice(at[0] * block.width, (at[-1] + 1) * block.width)
    return torch.tensor([position * block.width + feature for position in at for feature in range(block.width)])


@dataclass(frozen=True)
class BlockRun:
    """How one block of one layer runs.

    Args:
        block: the block.
        layer: the layer that it is in.
        closed: inputs of the out-projection that accepted candidates close, in the order accepted.
        tried: those that the candidate closes.
        known: returns the cached values of the block in this call, or None; called only if `keep` is given.
        keep: records the values of a call.
        count: counts multiply-adds.
    """

    block: Block
    layer: nn.Module
    closed: Sequence[Features]
    tried: Sequence[Features]
    known: Callable[[], Known | None]
    keep: Callable[[Known], None] | None
    count: Callable[[float], None]

    def install(self) -> Iterator[Undo]:
        """Make the block run this way; yield what undoes each step."""
        if self.closed or self.tried or self.keep:
            yield replaced(self.out_projection, partial(self._write, self.out_projection.forward))
        if self.keep is None:
            return
        *others, (last, stub) = stand_ins(self.block).items()
        for part, other in others:
            module = self.layer.get_submodule(part)
            yield replaced(module, partial(self._unless_known, module.forward, other.forward))
        module = self.layer.get_submodule(last)
        yield replaced(module, partial(self._unless_known, module.forward, partial(self._recall, stub.num_outputs)))

    @property
    def out_projection(self) -> nn.Linear:
        """The linear layer that consumes the units."""
        return self.layer.get_submodule(self.block.out_projection)  # type: ignore[return-value]

    def _write(self, forward: Callable[[Tensor], Tensor], z_BTC: Tensor) -> Tensor:
        y_BTC = self._without(forward(z_BTC), z_BTC, self.closed)
        if self.keep:
            self.keep((z_BTC, y_BTC))
        return self._without(y_BTC, z_BTC, self.tried)

    def _recall(self, num_outputs: int, *_: Any, **__: Any) -> Any:
        known = self.known()
        assert known is not None
        z_BTC, y_BTC = known
        result = self._without(y_BTC, z_BTC, self.tried)
        return result if num_outputs == 1 else (result, *(None,) * (num_outputs - 1))

    def _unless_known(self, forward: Callable[..., Any], other: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self.known() is None else other(*args, **kwargs)

    def _without(self, y_BTC: Tensor, z_BTC: Tensor, parts: Sequence[Features]) -> Tensor:
        for features in parts:
            part_BTC = z_BTC[..., features]
            self.count(part_BTC.numel() * y_BTC.shape[-1])
            y_BTC = y_BTC - functional.linear(part_BTC, self.out_projection.weight[:, features])
        return y_BTC
