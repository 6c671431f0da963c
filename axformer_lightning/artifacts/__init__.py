"""KEEP: a cut model as a directory, and back."""

from axformer_lightning.artifacts.loading import load_pretrained, save_pretrained
from axformer_lightning.artifacts.own_saving import extend_saving

extend_saving()

__all__ = ["load_pretrained", "save_pretrained"]
