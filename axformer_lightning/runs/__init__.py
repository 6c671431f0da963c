"""RUN: how a run goes: its stages, resuming, retraining."""

from axformer_lightning.runs.retraining import train_again

__all__ = ["train_again"]
