"""COMPARE: many searches or runs, side by side."""

from axformer_lightning.sweeps.gains import Gain, Spread, gains
from axformer_lightning.sweeps.rows import batches_of, encoded, first_rows, labelled_rows, rows_in
from axformer_lightning.sweeps.rules import RULES, Report, RuleResult, compare_rules

__all__ = [
    "RULES",
    "Gain",
    "Report",
    "RuleResult",
    "Spread",
    "batches_of",
    "compare_rules",
    "encoded",
    "first_rows",
    "gains",
    "labelled_rows",
    "rows_in",
]
