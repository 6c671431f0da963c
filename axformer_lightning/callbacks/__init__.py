"""WHEN: Lightning callbacks that search, cut and let training go on at the end of chosen validation epochs."""

from axformer_lightning.callbacks.agreement import settings_of
from axformer_lightning.callbacks.base import SearchCallback
from axformer_lightning.callbacks.budget import ShrinkCallback
from axformer_lightning.callbacks.hard_attention import HardAttentionCallback
from axformer_lightning.callbacks.pruning import AccuracyDrivenPruningCallback

__all__ = ["AccuracyDrivenPruningCallback", "HardAttentionCallback", "SearchCallback", "ShrinkCallback", "settings_of"]
