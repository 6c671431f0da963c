"""Make fine-tuned transformer encoders smaller, faster and more accurate, decided by measured accuracy."""

from axformer_lightning.finding import find_plan
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_, load_pretrained, save_pretrained

__version__ = "0.1.0"
__all__ = ["Plan", "apply_plan_", "find_plan", "load_pretrained", "save_pretrained"]
