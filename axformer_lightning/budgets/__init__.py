"""SHRINK: from a target to the widths of all blocks, by what they do to the task."""

from axformer_lightning.budgets.budget import NO_TARGETS, TARGETS, Budget, Effort, TargetOptions
from axformer_lightning.budgets.choosing import Chooser, Tried
from axformer_lightning.budgets.damage import Damage
from axformer_lightning.budgets.floor import Floor, most_lost, split_floor
from axformer_lightning.budgets.probe import Probe
from axformer_lightning.budgets.program import least_damage
from axformer_lightning.budgets.shrink import Slice, shrink, shrink_
from axformer_lightning.budgets.tables import Option, Table, measure_table
from axformer_lightning.budgets.targets import Costs, Target, targets_of
from axformer_lightning.budgets.widths import layers_of, widths_of

__all__ = [
    "NO_TARGETS",
    "TARGETS",
    "Budget",
    "Chooser",
    "Costs",
    "Damage",
    "Effort",
    "Floor",
    "Option",
    "Probe",
    "Slice",
    "Table",
    "Target",
    "TargetOptions",
    "Tried",
    "layers_of",
    "least_damage",
    "measure_table",
    "most_lost",
    "shrink",
    "shrink_",
    "split_floor",
    "targets_of",
    "widths_of",
]
