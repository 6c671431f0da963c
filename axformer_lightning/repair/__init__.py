"""REPAIR: what is left of a block is made to give what the whole block gave."""

from axformer_lightning.repair.as_left import AsLeft, Layers
from axformer_lightning.repair.cache import block_order, cached_moments
from axformer_lightning.repair.ladders import Width, ladder, ladders_of
from axformer_lightning.repair.least_squares import DAMPING, output_error, repaired
from axformer_lightning.repair.means import place_of_mean
from axformer_lightning.repair.measuring import check_can_repair, measure_moments, out_projections
from axformer_lightning.repair.moments import BlockMoments, BlockName, Moments
from axformer_lightning.repair.order import RemovalOrder, removal_order
from axformer_lightning.repair.repair import (
    Repair,
    Solved,
    apply_repair_,
    find_repair,
    repaired_as,
    repaired_weights,
    without_repair,
)

__all__ = [
    "DAMPING",
    "AsLeft",
    "BlockMoments",
    "BlockName",
    "Layers",
    "Moments",
    "RemovalOrder",
    "Repair",
    "Solved",
    "Width",
    "apply_repair_",
    "block_order",
    "cached_moments",
    "check_can_repair",
    "find_repair",
    "ladder",
    "ladders_of",
    "measure_moments",
    "out_projections",
    "output_error",
    "place_of_mean",
    "removal_order",
    "repaired",
    "repaired_as",
    "repaired_weights",
    "without_repair",
]
