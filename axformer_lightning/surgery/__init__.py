"""CUT: make the weights smaller."""

from axformer_lightning.surgery.checks import check_can_cut, check_plan, check_unshared
from axformer_lightning.surgery.cut import Edit, apply_plan_, cut_, keep
from axformer_lightning.surgery.original import restore_layers_
from axformer_lightning.surgery.positions import kept_positions

__all__ = [
    "Edit",
    "apply_plan_",
    "check_can_cut",
    "check_plan",
    "check_unshared",
    "cut_",
    "keep",
    "kept_positions",
    "restore_layers_",
]
