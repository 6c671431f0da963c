"""The plan of a model."""

from typing import Any

from axformer_lightning.anatomy import anatomy_of
from axformer_lightning.plan.plan import Plan


def applied_plan(model: Any) -> Plan | None:
    """Return the plan that a transformer was cut by, None for one that is as it was built.

    Example:
        >>> print(applied_plan(object()))
        None
    """
    plan: Plan | None = getattr(model, "axformer_plan", None)
    return plan


def plan_of(model: Any) -> Plan:
    """Return what is left of a transformer: the plan that it was cut by, or one that removes nothing.

    Raises:
        ValueError: if it is of an unknown family.
    """
    return applied_plan(model) or Plan.dense(anatomy_of(model))
