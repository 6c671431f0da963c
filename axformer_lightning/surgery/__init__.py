"""CUT: make the weights smaller."""

from axformer_lightning.surgery.checks import check_can_cut, check_plan, check_unshared
from axformer_lightning.surgery.cut import apply_plan_, bring_to_, check_can_become, cut_, let_plan_travel
from axformer_lightning.surgery.edits import Edit, joined, keep
from axformer_lightning.surgery.original import restore_layers_
from axformer_lightning.surgery.positions import kept_positions
from axformer_lightning.surgery.travelling import KEY, is_as_it_was_built, plans_in

__all__ = [
    "KEY",
    "Edit",
    "apply_plan_",
    "bring_to_",
    "check_can_become",
    "check_can_cut",
    "check_plan",
    "check_unshared",
    "cut_",
    "is_as_it_was_built",
    "joined",
    "keep",
    "kept_positions",
    "let_plan_travel",
    "plans_in",
    "restore_layers_",
]
