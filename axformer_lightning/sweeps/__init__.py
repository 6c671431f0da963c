"""RUN: many searches or runs, side by side."""

from axformer_lightning.sweeps.rules import RULES, RuleResult, compare_rules

__all__ = ["RULES", "RuleResult", "compare_rules"]
