"""JUDGE: tensors and numbers in, accept or reject out.

Shape suffixes: ``N`` samples of the search set (or of a batch of it), ``C`` classes.
"""

from axformer_lightning.criteria.accuracy import LabelAccuracy
from axformer_lightning.criteria.bars import CRITERIA, Bar, Clause, Totals, inspection_bar, votes_needed, votes_suffice
from axformer_lightning.criteria.counts import surely_more
from axformer_lightning.criteria.rules import Rule, Vote, make_rule
from axformer_lightning.criteria.sequential import Excess, surely_positive
from axformer_lightning.criteria.temperature import fit_temperature
from axformer_lightning.criteria.votes import correct, not_turned_wrong, not_worse

__all__ = [
    "CRITERIA",
    "Bar",
    "Clause",
    "Excess",
    "LabelAccuracy",
    "Rule",
    "Totals",
    "Vote",
    "correct",
    "fit_temperature",
    "inspection_bar",
    "make_rule",
    "not_turned_wrong",
    "not_worse",
    "surely_more",
    "surely_positive",
    "votes_needed",
    "votes_suffice",
]
