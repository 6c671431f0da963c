"""CARRY ON: what holds the old parameters follows the cut: optimizers, the weights to rewind to, checkpoints."""

from axformer_lightning.training.checkpoints import PLANS_KEY, apply_checkpoint_plans_, load_from_checkpoint
from axformer_lightning.training.optimizers import carry_over, check_all_trained
from axformer_lightning.training.starting_point import StartingPoint

__all__ = [
    "PLANS_KEY",
    "StartingPoint",
    "apply_checkpoint_plans_",
    "carry_over",
    "check_all_trained",
    "load_from_checkpoint",
]
