"""JUDGE: tensors and numbers in, accept or reject out.

Shape suffixes: ``N`` samples of the search set (or of a batch of it), ``C`` classes.
"""

from axformer_lightning.criteria.accuracy import LabelAccuracy
from axformer_lightning.criteria.counts import surely_more
from axformer_lightning.criteria.judging import (
    Totals,
    gains,
    inspection_bound,
    loss_bound,
    lower,
    no_higher,
    votes_needed,
    votes_suffice,
    worth_inspecting,
)
from axformer_lightning.criteria.rules import Rule, Vote, make_rule
from axformer_lightning.criteria.sequential import Excess, surely_positive
from axformer_lightning.criteria.temperature import fit_temperature
from axformer_lightning.criteria.votes import correct, not_turned_wrong, not_worse

__all__ = [
    "Excess",
    "LabelAccuracy",
    "Rule",
    "Totals",
    "Vote",
    "correct",
    "fit_temperature",
    "gains",
    "inspection_bound",
    "loss_bound",
    "lower",
    "make_rule",
    "no_higher",
    "not_turned_wrong",
    "not_worse",
    "surely_more",
    "surely_positive",
    "votes_needed",
    "votes_suffice",
    "worth_inspecting",
]
