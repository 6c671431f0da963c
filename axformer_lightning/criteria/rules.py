"""The rule that a user's arguments describe."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from torchmetrics import Metric

from axformer_lightning.criteria.accuracy import LabelAccuracy

Vote = Literal["loss", "prediction"]


@dataclass(frozen=True)
class Rule:
    """When a candidate is accepted.

    Args:
        majority: the share of samples of which strictly more must be not worse than with the fine-tuned
            model; in ``[0, 1)``, 0 switches the vote off.
        tolerance: how far the total may fall behind the fine-tuned model: as a share of its mean loss, or, with
            a ``metric``, as an absolute drop of the metric. At 0 every accepted step has to be a gain.
        metric: a task metric to decide by instead of the mean loss.
        vote: when a sample counts as worse: ``"loss"``, if its loss is above that with the fine-tuned model;
            ``"prediction"``, if the fine-tuned model's prediction was right and the candidate's is wrong.
        with_loss: whether the mean loss has to gain too, and the ``metric`` only must not get worse.

    Raises:
        ValueError: if ``majority`` or ``tolerance`` is out of range, the metric has no direction, there is no such
            vote, or ``with_loss`` has no metric beside it.

    Example:
        >>> Rule(majority=1)
        Traceback (most recent call last):
        ValueError: Expected `majority` in [0, 1), where 0 switches the vote off, got 1.
    """

    majority: float = 0.5
    tolerance: float = 0.0
    metric: Metric | None = None
    vote: Vote = "loss"
    with_loss: bool = False

    @property
    def needs_loss(self) -> bool:
        """Whether nothing is accepted of which the mean loss does not gain."""
        return self.metric is None or self.with_loss

    def __post_init__(self) -> None:
        if not 0 <= self.majority < 1:
            raise ValueError(f"Expected `majority` in [0, 1), where 0 switches the vote off, got {self.majority}.")
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"Expected `tolerance` to be a number of at least 0, got {self.tolerance}.")
        if self.metric is not None and self.metric.higher_is_better is None:
            raise ValueError(
                f"Expected a metric that says whether higher is better, got {type(self.metric).__name__} with"
                " `higher_is_better=None`. Set that attribute."
            )
        if self.vote not in get_args(Vote):
            raise ValueError(f"Expected `vote` to be 'loss' or 'prediction', got {self.vote!r}.")
        if self.with_loss and self.metric is None:
            raise ValueError("Expected a metric beside the loss with `with_loss=True`, got none. Pass `metric=`.")


def make_rule(
    criterion: str | Metric, metric: Metric | None, majority: float, tolerance: float, vote: Vote = Rule.vote
) -> Rule:
    """Return the rule that a user's arguments describe.

    Args:
        criterion: ``"loss"``, ``"metric"``, ``"loss_and_metric"`` (the loss gains and the metric is not worse), or
            the metric itself.
        metric: the metric that ``"metric"`` and ``"loss_and_metric"`` stand for; beside the loss by default
            :class:`~axformer_lightning.criteria.LabelAccuracy`.
        majority: see :class:`Rule`.
        tolerance: see :class:`Rule`.
        vote: see :class:`Rule`.

    Raises:
        ValueError: if ``criterion`` is something else, or is ``"metric"`` and there is none.

    Example:
        >>> make_rule("loss", None, 0.5, 0.0)
        Rule(majority=0.5, tolerance=0.0, metric=None, vote='loss', with_loss=False)
    """
    if isinstance(criterion, Metric):
        return Rule(majority, tolerance, criterion, vote)
    if criterion not in ("loss", "metric", "loss_and_metric"):
        raise ValueError(
            "Expected `criterion` to be 'loss', 'metric', 'loss_and_metric' or a torchmetrics.Metric, got"
            f" {criterion!r}."
        )
    if criterion == "loss":
        return Rule(majority, tolerance, None, vote)
    if criterion == "loss_and_metric":
        return Rule(majority, tolerance, LabelAccuracy() if metric is None else metric, vote, with_loss=True)
    if metric is None:
        raise ValueError(
            "Expected a metric to decide by with criterion='metric', got none. Pass"
            " `metric=torchmetrics.Accuracy(...)`."
        )
    return Rule(majority, tolerance, metric, vote)
