"""CARRY ON: optimizers, averages, rewinding, checkpoints: all that refers to the old parameters follows the cut."""

from axformer_lightning.training.averages import averaged_modules, copy_parameters_, restart_averages
from axformer_lightning.training.checkpoints import PLANS_KEY, apply_checkpoint_plans_, load_from_checkpoint
from axformer_lightning.training.optimizers import carry_over, check_all_trained, forget_removed, held_by
from axformer_lightning.training.processes import (
    fits_in_workers,
    follow_workers_,
    follows_workers,
    rewrap,
)
from axformer_lightning.training.references import (
    check_references,
    contents_of,
    copies_of,
    original_of,
    tell_of_cut,
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
    "check_references",
    "contents_of",
    "copies_of",
    "copy_parameters_",
    "fits_in_workers",
    "follow_workers_",
    "follows_workers",
    "forget_removed",
    "held_by",
    "load_from_checkpoint",
    "original_of",
    "restart_averages",
    "rewrap",
    "tell_of_cut",
]
