"""How many units of each block are left: the choice that a budget search makes."""

from collections.abc import Mapping, Sequence

from axformer_lightning.anatomy import Anatomy, Block, LayerPlan
from axformer_lightning.repair import BlockName, RemovalOrder, Width

Widths = Mapping[BlockName, Width]


def widths_of(anatomy: Anatomy, layers: Sequence[LayerPlan]) -> dict[BlockName, Width]:
    """Return how many units ``layers`` leave of each block.

    Example:
        >>> from axformer_lightning.anatomy import BERT
        >>> widths_of(Anatomy("bert", BERT, ("layer.0",), 4, 2, 16), [LayerPlan("removed")])
        {(0, 'attention'): None, (0, 'feed_forward'): 16}
    """
    return {
        (i, block.kind): None if (left := block.left(layer)) is None else len(left)
        for i, layer in enumerate(layers)
        for block in anatomy.blocks
    }


def layers_of(
    anatomy: Anatomy, before: Sequence[LayerPlan], orders: Mapping[BlockName, RemovalOrder], widths: Widths
) -> tuple[LayerPlan, ...]:
    """Return the layers in which each block has the width asked for; its last units in removal order are left.

    Args:
        anatomy: the model's parts.
        before: what is left now.
        orders: in which the units of each block go, of those that are left now.
        widths: of each block.
    """
    layers = list(before)
    for (i, kind), width in widths.items():
        layers[i] = _with_width(anatomy.block(kind), layers[i], width, orders.get((i, kind)))
    return tuple(layers)


def _with_width(block: Block, layer: LayerPlan, width: Width, order: RemovalOrder | None) -> LayerPlan:
    had = block.left(layer)
    if had is None or order is None or width == len(had):
        return layer
    if width is None:
        return layer.without_attention() if block.kind == "attention" else layer.without_feed_forward()
    return block.keeping(layer, order.kept(width))
