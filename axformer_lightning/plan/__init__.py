"""REMEMBER: the whole decision as names and numbers, to and from JSON.

A plan holds no times, paths, hosts or weights. All indices are those of the original model, however many
rounds of cutting lie between.
"""

from axformer_lightning.plan.applied import applied_plan, plan_of
from axformer_lightning.plan.entries import Decision
from axformer_lightning.plan.plan import Plan

__all__ = ["Decision", "Plan", "applied_plan", "plan_of"]
