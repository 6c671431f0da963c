"""COMPARE: many searches or runs, side by side."""

from axformer_lightning.sweeps.baselines import METHODS
from axformer_lightning.sweeps.budgets import BudgetResult, compare_budgets
from axformer_lightning.sweeps.gains import Gain, gains
from axformer_lightning.sweeps.reports import Report, report_of
from axformer_lightning.sweeps.rows import batches_of, encoded, first_rows, labelled_rows, rows_in
from axformer_lightning.sweeps.rules import RULES, RuleResult, compare_rules

__all__ = [
    "METHODS",
    "RULES",
    "BudgetResult",
    "Gain",
    "Report",
    "RuleResult",
    "batches_of",
    "compare_budgets",
    "compare_rules",
    "encoded",
    "first_rows",
    "gains",
    "labelled_rows",
    "report_of",
    "rows_in",
]
