"""WHEN: Lightning callbacks that search, cut and let training go on after chosen epochs, and one that teaches."""

from axformer_lightning.callbacks.agreement import settings_of
from axformer_lightning.callbacks.base import SearchCallback
from axformer_lightning.callbacks.budget import ShrinkCallback
from axformer_lightning.callbacks.distillation import DistillationCallback
from axformer_lightning.callbacks.hard_attention import HardAttentionCallback
from axformer_lightning.callbacks.int8 import Int8Callback
from axformer_lightning.callbacks.pruning import AccuracyDrivenPruningCallback

__all__ = [
    "AccuracyDrivenPruningCallback",
    "DistillationCallback",
    "HardAttentionCallback",
    "Int8Callback",
    "SearchCallback",
    "ShrinkCallback",
    "settings_of",
]
