"""The two halves of a layer, told by what they have in common."""

from dataclasses import dataclass, field
from typing import Literal

from axformer_lightning.anatomy.layers import LayerPlan


@dataclass(frozen=True)
class Block:
    """An attention or feed-forward block: linear layers that write units, and one that reads them.

    Args:
        kind: which half of the layer; also the name of its field in a :class:`LayerPlan`.
        num_units: heads, or intermediate neurons.
        width: features of a unit.
        readers: linear layers whose output features are the units, with the number of them that each holds fused.
        optional: those readers that only some configs have.
        writer: linear layer whose input features are the units.
        stubs: modules that together are the block, with the number of values each returns.
        without_units: modules to take the place of once no unit is left.
    """

    kind: Literal["attention", "feed_forward"]
    num_units: int
    width: int
    readers: dict[str, int] = field(hash=False)
    optional: tuple[str, ...]
    writer: str
    stubs: dict[str, int] = field(hash=False)
    without_units: tuple[str, ...]

    @property
    def num_linears(self) -> int:
        """How many linear layers every configuration has, the fused ones counted one by one."""
        return 1 + sum(fused for reader, fused in self.readers.items() if reader not in self.optional)

    def left(self, layer: LayerPlan) -> list[int] | None:
        """Return the units that ``layer`` keeps, ascending, or None where the block is removed."""
        if getattr(layer, self.kind) == "removed":
            return None
        return layer.kept_heads(self.num_units) if self.kind == "attention" else layer.kept_neurons(self.num_units)
