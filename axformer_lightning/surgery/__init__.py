"""CUT: make the weights smaller; save and load what is left."""

from axformer_lightning.surgery.artifact import load_pretrained, save_pretrained
from axformer_lightning.surgery.cut import Edit, apply_plan_, check_plan, cut_, keep, kept_positions
from axformer_lightning.surgery.original import restore_layers_

__all__ = [
    "Edit",
    "apply_plan_",
    "check_plan",
    "cut_",
    "keep",
    "kept_positions",
    "load_pretrained",
    "restore_layers_",
    "save_pretrained",
]
