"""The two halves of a layer, described in the same terms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from axformer_lightning.anatomy.layers import LayerPlan


@dataclass(frozen=True)
class Block:
    """An attention or feed-forward block: linear layers that produce units, and one that consumes them.

    Args:
        kind: which half of the layer; also the name of its field in a :class:`LayerPlan`.
        num_units: heads, or intermediate neurons.
        width: features of a unit.
        in_projections: linear layers that produce the units, with the number of linear layers that each fuses. Their
            rows are cut.
        optional: those of them that only some configs have.
        out_projection: linear layer that consumes the units. Its columns are cut.
        modules: modules that together form the block, with the number of values each returns.
        without_units: modules to replace once no unit is left.
    """

    kind: Literal["attention", "feed_forward"]
    num_units: int
    width: int
    in_projections: dict[str, int] = field(hash=False)
    optional: tuple[str, ...]
    out_projection: str
    modules: dict[str, int] = field(hash=False)
    without_units: tuple[str, ...]

    @property
    def num_linears(self) -> int:
        """How many linear layers every configuration has, the fused ones counted one by one."""
        return 1 + sum(fused for name, fused in self.in_projections.items() if name not in self.optional)

    def left(self, layer: LayerPlan) -> list[int] | None:
        """Return the units that ``layer`` keeps, ascending, or None where the block is removed."""
        if getattr(layer, self.kind) == "removed":
            return None
        return layer.kept_heads(self.num_units) if self.kind == "attention" else layer.kept_neurons(self.num_units)

    def keeps_more(self, wanted: LayerPlan, now: LayerPlan) -> bool:
        """Tell whether ``wanted`` has units of the block, or the block itself, that ``now`` lacks.

        Example:
            >>> from axformer_lightning.anatomy import BERT, Anatomy
            >>> heads, _ = Anatomy("bert", BERT, ("encoder.layer.0",), 4, 8, 6).blocks
            >>> cut = LayerPlan(heads_removed=(1,))
            >>> heads.keeps_more(cut, LayerPlan()), heads.keeps_more(LayerPlan(), cut)
            (False, True)
        """
        had, wants = self.left(now), self.left(wanted)
        return not set(wants or ()) <= set(had or ()) or (had is None and wants is not None)

    def features(self, units: Iterable[int], had: Sequence[int]) -> list[int]:
        """Return where the features of ``units`` are among those of the units that there are.

        Example:
            >>> from axformer_lightning.anatomy import BERT, Anatomy
            >>> heads, _ = Anatomy("bert", BERT, ("encoder.layer.0",), 4, 2, 6).blocks
            >>> heads.features([1, 3], had=[0, 1, 3])
            [2, 3, 4, 5]
        """
        place = {unit: index for index, unit in enumerate(had)}
        return [place[unit] * self.width + feature for unit in units for feature in range(self.width)]

    def keeping(self, layer: LayerPlan, units: Iterable[int]) -> LayerPlan:
        """Return ``layer`` with exactly these ``units`` of the block left, which then is not removed.

        Example:
            >>> from axformer_lightning.anatomy import BERT, Anatomy
            >>> heads, neurons = Anatomy("bert", BERT, ("encoder.layer.0",), 4, 8, 6).blocks
            >>> neurons.keeping(heads.keeping(LayerPlan(), [1, 2]), [0, 4])
            LayerPlan(..., heads_removed=(0, 3), ..., neurons_removed=((1, 4), (5, 6)), ...)
        """
        stay = set(units)
        gone = [unit for unit in range(self.num_units) if unit not in stay]
        if self.kind == "attention":
            return replace(layer, attention="kept", heads_removed=tuple(gone))
        starts = [unit for unit in gone if unit - 1 in stay or unit == 0]
        stops = [unit + 1 for unit in gone if unit + 1 in stay or unit + 1 == self.num_units]
        return replace(layer, feed_forward="kept", neurons_removed=tuple(zip(starts, stops, strict=True)))
