"""Make fine-tuned transformer encoders smaller, faster and more accurate, decided by measured accuracy."""

from axformer_lightning.anatomy import Family, register_family
from axformer_lightning.artifacts import load_pretrained, save_pretrained
from axformer_lightning.budgets import shrink
from axformer_lightning.callbacks import (
    AccuracyDrivenPruningCallback,
    DistillationCallback,
    HardAttentionCallback,
    Int8Callback,
    ShrinkCallback,
)
from axformer_lightning.exporting import export_model, read_exported
from axformer_lightning.plan import Plan
from axformer_lightning.rounds import in_bf16, quantize
from axformer_lightning.search import find_plan
from axformer_lightning.surgery import apply_plan_
from axformer_lightning.training import apply_checkpoint_plans_, follow_workers_, load_from_checkpoint
from axformer_lightning.vocabulary import trim_vocabulary_

__version__ = "0.1.0"
__all__ = [
    "AccuracyDrivenPruningCallback",
    "DistillationCallback",
    "Family",
    "HardAttentionCallback",
    "Int8Callback",
    "Plan",
    "ShrinkCallback",
    "apply_checkpoint_plans_",
    "apply_plan_",
    "export_model",
    "find_plan",
    "follow_workers_",
    "in_bf16",
    "load_from_checkpoint",
    "load_pretrained",
    "quantize",
    "read_exported",
    "register_family",
    "save_pretrained",
    "shrink",
    "trim_vocabulary_",
]
