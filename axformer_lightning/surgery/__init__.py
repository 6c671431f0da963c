"""CUT: make the weights smaller."""

from axformer_lightning.surgery.cut import apply_plan_, check_plan, cut_, kept_positions
from axformer_lightning.surgery.edits import Edit, joined, keep
from axformer_lightning.surgery.original import restore_layers_

__all__ = [
    "Edit",
    "apply_plan_",
    "check_plan",
    "cut_",
    "joined",
    "keep",
    "kept_positions",
    "restore_layers_",
]
