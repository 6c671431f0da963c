"""MANY: every job of a sweep in a process of its own, several at a time."""

from axformer_lightning.multirun.launcher import register_launcher
from axformer_lightning.multirun.launching import launch

__all__ = ["launch", "register_launcher"]
