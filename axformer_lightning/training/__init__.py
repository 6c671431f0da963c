"""CARRY ON: optimizers, averages, rewinding, checkpoints: all that refers to the old parameters follows the cut."""

from axformer_lightning.training.averages import averaged_modules, restart_averages
from axformer_lightning.training.checkpoints import PLANS_KEY, apply_checkpoint_plans_, load_from_checkpoint
from axformer_lightning.training.optimizers import carry_over, check_all_trained
from axformer_lightning.training.processes import (
    fits_in_workers,
    follow_workers_,
    follows_workers,
    rewrap,
    tell_main_process,
)
from axformer_lightning.training.starting_point import StartingPoint, cannot_write

__all__ = [
    "PLANS_KEY",
    "StartingPoint",
    "apply_checkpoint_plans_",
    "averaged_modules",
    "cannot_write",
    "carry_over",
    "check_all_trained",
    "fits_in_workers",
    "follow_workers_",
    "follows_workers",
    "load_from_checkpoint",
    "restart_averages",
    "rewrap",
    "tell_main_process",
]
