"""The widths at which a block is tried."""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, LayerPlan
from axformer_lightning.repair.cache import block_order
from axformer_lightning.repair.moments import Moments

Width = int | None  # units that are left of a block; None where it is removed
SHARES = (0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0625)  # of the units that a block has


def ladder(units: int) -> tuple[Width, ...]:
    """Return the widths that are tried of a block with so many units: from whole to one sixteenth, and removed.

    Example:
        >>> ladder(1536)
        (1536, 1344, 1152, 960, 768, 576, 384, 192, 96, None)
        >>> ladder(6)
        (6, 5, 4, 3, 2, 1, None)
    """
    steps = (max(1, round(units * share)) for share in SHARES) if units else ()
    return (*dict.fromkeys((units, *steps)), None)


def ladders_of(
    transformer: PreTrainedModel, anatomy: Anatomy, layers: Sequence[LayerPlan], moments: Moments
) -> tuple[Mapping[str, Mapping[int, LayerPlan]], ...]:
    """Return of each layer, by kind of block and width, what is left of the block once its units have gone in order.

    Args:
        transformer: the model as it is.
        anatomy: its parts.
        layers: what is left of each layer.
        moments: of the model as it is; they give the order.
    """
    found: list[dict[str, Mapping[int, LayerPlan]]] = []
    for i, layer in enumerate(layers):
        found.append({})
        for block in anatomy.blocks:
            units = block.left(layer)
            if units:
                order = block_order(transformer, moments, i, block.kind)
                widths = [width for width in ladder(len(units)) if width is not None and width < len(units)]
                found[-1][block.kind] = {width: block.keeping(layer, order.kept(width)) for width in widths}
    return tuple(found)
