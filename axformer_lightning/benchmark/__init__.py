"""Measurements on your model and data: `python -m axformer_lightning.benchmark COMMAND`."""

from axformer_lightning.benchmark.command import main

__all__ = ["main"]
