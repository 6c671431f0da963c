"""SHRINK: from a target to the widths of all blocks, by what they do to the task."""

from axformer_lightning.budgets.choosing import Chooser, Tried
from axformer_lightning.budgets.probe import Damage, Probe, divergence
from axformer_lightning.budgets.program import least_damage
from axformer_lightning.budgets.shrink import Effort, shrink, shrink_, shuffled
from axformer_lightning.budgets.tables import Option, measure_table
from axformer_lightning.budgets.widths import ladder, layers_of, widths_of

__all__ = [
    "Chooser",
    "Damage",
    "Effort",
    "Option",
    "Probe",
    "Tried",
    "divergence",
    "ladder",
    "layers_of",
    "least_damage",
    "measure_table",
    "shrink",
    "shrink_",
    "shuffled",
    "widths_of",
]
