"""MANY: every job of a sweep in a process of its own, several at a time."""

from axformer_lightning.multirun.launching import launch
from axformer_lightning.multirun.registering import register_plugins

__all__ = ["launch", "register_plugins"]
