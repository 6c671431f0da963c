"""KEEP: a cut model as a directory, and back."""

from axformer_lightning.artifacts.loading import load_pretrained, save_pretrained

__all__ = ["load_pretrained", "save_pretrained"]
