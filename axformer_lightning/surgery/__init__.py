"""CUT: make the weights smaller; save and load what is left."""

from axformer_lightning.surgery.artifact import load_pretrained, save_pretrained
from axformer_lightning.surgery.cut import Edit, apply_plan_, cut_, keep, kept_positions

__all__ = ["Edit", "apply_plan_", "cut_", "keep", "kept_positions", "load_pretrained", "save_pretrained"]
