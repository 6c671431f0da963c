"""JUDGE: tensors and numbers in, accept or reject out.

Shape suffixes: ``N`` samples of the search set.
"""

import math
from dataclasses import dataclass

from torch import Tensor
from torchmetrics import Metric


@dataclass(frozen=True)
class Rule:
    """When a candidate is accepted.

    Args:
        majority: the share of samples of which strictly more must be not worse than with the fine-tuned
            model; in ``[0, 1)``, 0 switches the vote off.
        tolerance: how far the total may fall behind the fine-tuned model: as a share of its mean loss, or, with
            a ``metric``, as an absolute drop of the metric. At 0 every accepted step has to be a gain.
        metric: a task metric to decide by instead of the mean loss.

    Raises:
        ValueError: if ``majority`` or ``tolerance`` is out of range, or the metric has no direction.

    Example:
        >>> Rule(majority=1)
        Traceback (most recent call last):
        ValueError: Expected `majority` in [0, 1), where 0 switches the vote off, got 1.
    """

    majority: float = 0.5
    tolerance: float = 0.0
    metric: Metric | None = None

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


def make_rule(criterion: str | Metric, metric: Metric | None, majority: float, tolerance: float) -> Rule:
    """Return the rule that a user's arguments describe.

    Args:
        criterion: ``"loss"``, ``"metric"``, or the metric itself.
        metric: the metric that ``"metric"`` stands for.
        majority: see :class:`Rule`.
        tolerance: see :class:`Rule`.

    Raises:
        ValueError: if ``criterion`` is something else, or is ``"metric"`` and there is none.

    Example:
        >>> make_rule("loss", None, 0.5, 0.0)
        Rule(majority=0.5, tolerance=0.0, metric=None)
    """
    if isinstance(criterion, Metric):
        return Rule(majority, tolerance, criterion)
    if criterion not in ("loss", "metric"):
        raise ValueError(f"Expected `criterion` to be 'loss', 'metric' or a torchmetrics.Metric, got {criterion!r}.")
    if criterion == "metric" and metric is None:
        raise ValueError(
            "Expected a metric to decide by with criterion='metric', got none. Pass"
            " `metric=torchmetrics.Accuracy(...)`."
        )
    return Rule(majority, tolerance, metric if criterion == "metric" else None)


def not_worse(loss_N: Tensor, base_N: Tensor, tolerance: float = 0.0) -> Tensor:
    """Tell which samples are not worse than with the fine-tuned model; ties count as not worse.

    Args:
        loss_N: loss of the candidate on each sample.
        base_N: loss of the fine-tuned model on the same samples.
        tolerance: share of its own loss by which a sample may get worse unnoticed.

    Returns:
        Booleans, shape ``(N,)``.

    Example:
        >>> from torch import tensor
        >>> not_worse(tensor([0.5, 1.0, 1.1]), tensor([1.0, 1.0, 1.0]))
        tensor([ True,  True, False])
    """
    return loss_N <= base_N + tolerance * base_N.abs()


def votes_suffice(num_not_worse: int, num_samples: int, majority: float) -> bool:
    """Tell whether strictly more than ``floor(majority * num_samples)`` samples are not worse.

    Source: arXiv 2010.03688, section 3.1, with the authors' code's threshold of one half.

    Example:
        >>> votes_suffice(5, 10, 0.5), votes_suffice(6, 10, 0.5), votes_suffice(0, 10, 0)
        (False, True, True)
    """
    return majority == 0 or num_not_worse > math.floor(majority * num_samples)


def lower(value: float, best: float, base: float, tolerance: float = 0.0, *, absolute: bool = False) -> bool:
    """Tell whether ``value`` is below ``best``, or within the tolerance of ``base``; less is better.

    Args:
        value: what the candidate reached.
        best: what the model with everything accepted so far reaches.
        base: what the fine-tuned model reached.
        tolerance: how far the total may fall behind ``base``.
        absolute: whether ``tolerance`` is a difference rather than a share of ``base``.

    Example:
        >>> lower(0.9, best=1.0, base=1.0), lower(1.0, best=1.0, base=1.0)
        (True, False)
        >>> lower(1.04, best=0.9, base=1.0, tolerance=0.05)
        True
    """
    margin = tolerance if absolute else tolerance * abs(base)
    return value < best or (tolerance > 0 and value <= base + margin)


def worth_inspecting(loss: float, best: float, factor: float) -> bool:
    """Tell whether a rejected block came near enough for its parts to be tried: ``loss < factor * best``.

    Source: the inspection factor of the authors' code (1.1).

    Example:
        >>> worth_inspecting(1.05, best=1.0, factor=1.1), worth_inspecting(1.2, best=1.0, factor=1.1)
        (True, False)
    """
    return loss < best + (factor - 1) * abs(best)
