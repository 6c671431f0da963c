"""The rule that a user's arguments describe."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from torchmetrics import Metric

from axformer_lightning.basics import check_types
from axformer_lightning.criteria.accuracy import LabelAccuracy
from axformer_lightning.criteria.bars import CRITERIA, Clause, Totals

Vote = Literal["loss", "prediction"]


@dataclass(frozen=True)
class Rule:
    """When a candidate is accepted.

    Args:
        majority: strictly more than this share of the samples must not be worse than with the fine-tuned model; in
            ``[0, 1)``, 0 switches the vote off.
        tolerance: how far the totals may fall behind the fine-tuned model: as a share of its mean loss, and as an
            absolute drop of its metric. With 0 every accepted step has to be a gain.
        metric: the task metric that the criterion uses; beside one that uses none it is measured, and decides nothing.
        vote: when a sample counts as worse: ``"loss"``, if its loss is higher than with the fine-tuned model;
            ``"prediction"``, if the fine-tuned model's prediction is right and the candidate's is wrong.
        criterion: what has to improve, a key of :data:`~axformer_lightning.criteria.CRITERIA`.

    Raises:
        ValueError: if ``majority`` or ``tolerance`` is out of range, the metric is none or has no direction, there is
            no such vote or criterion, or the criterion uses a metric and there is none.

    Example:
        >>> Rule(majority=1)
        Traceback (most recent call last):
        ValueError: Expected `majority` in [0, 1), where 0 switches the vote off, got 1.
    """

    majority: float = 0.5
    tolerance: float = 0.0
    metric: Metric | None = None
    vote: Vote = "loss"
    criterion: str = "loss"

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """The conditions on a candidate's totals, all of which have to hold."""
        return CRITERIA[self.criterion]

    @property
    def goes_by_metric(self) -> bool:
        """Whether a condition is on the metric."""
        return any(clause.total == "metric" for clause in self.clauses)

    @property
    def loss_clause(self) -> Clause | None:
        """The condition on the mean loss, by which a candidate can be stopped early; None if there is none."""
        return next((clause for clause in self.clauses if clause.total == "loss"), None)

    def gains(self, score: Totals, best: Totals, base: Totals) -> bool:
        """Tell whether the totals of a candidate fulfil all clauses; the vote is counted separately.

        Args:
            score: totals of the candidate.
            best: totals of the model with everything accepted so far.
            base: totals of the fine-tuned model.

        Example:
            >>> from types import SimpleNamespace as Score
            >>> better, base = Score(loss=0.9, metric=None), Score(loss=1.0, metric=None)
            >>> Rule().gains(better, base, base), Rule().gains(base, base, base)
            (True, False)
        """
        return all(clause.holds(score, best, base, self.tolerance) for clause in self.clauses)

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 <= self.majority < 1:
            raise ValueError(f"Expected `majority` in [0, 1), where 0 switches the vote off, got {self.majority}.")
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"Expected `tolerance` to be a number of at least 0, got {self.tolerance}.")
        if self.metric is not None and not isinstance(self.metric, Metric):
            kind = self.metric if isinstance(self.metric, type) else type(self.metric)
            got = f"the class {kind.__name__}" if kind is self.metric else kind.__name__
            raise ValueError(
                f"Expected `metric` to be a torchmetrics.Metric, got {got}. Pass one, as `torchmetrics.Accuracy(...)`."
            )
        if self.metric is not None and self.metric.higher_is_better is None:
            name = type(self.metric).__name__
            raise ValueError(
                f"Expected a metric that says whether higher is better, got {name} with `higher_is_better=None`. Say it"
                f" in a class of your own: `class Mine({name}): higher_is_better = True`."
            )
        if self.vote not in get_args(Vote):
            raise ValueError(f"Expected `vote` to be 'loss' or 'prediction', got {self.vote!r}.")
        if self.criterion not in CRITERIA:
            raise ValueError(f"Expected `criterion` to be one of {list(CRITERIA)}, got {self.criterion!r}.")
        if self.goes_by_metric and self.metric is None:
            raise ValueError(f"Expected a metric with criterion={self.criterion!r}, got none. Change one of the two.")


def make_rule(
    criterion: str | Metric = Rule.criterion,
    metric: Metric | None = None,
    majority: float = Rule.majority,
    tolerance: float = Rule.tolerance,
    vote: Vote = Rule.vote,
) -> Rule:
    """Return the rule that a user's arguments describe.

    Args:
        criterion: ``"loss"``, ``"metric"``, ``"loss_and_metric"`` (the loss gains and the metric is not worse), or
            the metric itself.
        metric: the metric for ``"metric"`` and ``"loss_and_metric"``; for the latter by default
            :class:`~axformer_lightning.criteria.LabelAccuracy`. With ``"loss"`` it is only measured.
        majority: see :class:`Rule`.
        tolerance: see :class:`Rule`.
        vote: see :class:`Rule`.

    Raises:
        ValueError: if ``criterion`` is none of these, or is ``"metric"`` without a metric.

    Example:
        >>> make_rule("loss", None, 0.5, 0.0)
        Rule(majority=0.5, tolerance=0.0, metric=None, vote='loss', criterion='loss')
    """
    if isinstance(criterion, Metric):
        return Rule(majority, tolerance, criterion, vote, "metric")
    if criterion not in CRITERIA:
        names = ", ".join(map(repr, CRITERIA))
        raise ValueError(f"Expected `criterion` to be {names} or a torchmetrics.Metric, got {criterion!r}.")
    totals = {clause.total for clause in CRITERIA[criterion]}
    if "metric" not in totals:
        return Rule(majority, tolerance, metric, vote, criterion)
    if metric is None and "loss" not in totals:
        raise ValueError(
            f"Expected a metric to decide by with criterion={criterion!r}, got none. Pass"
            " `metric=torchmetrics.Accuracy(...)`."
        )
    return Rule(majority, tolerance, LabelAccuracy() if metric is None else metric, vote, criterion)
