"""The verdict on a candidate, from what it came to on the whole search set."""

import math
from collections.abc import Callable
from typing import Protocol

from axformer_lightning.criteria.rules import Rule


class Totals(Protocol):
    """What a candidate came to; less is better in both."""

    @property
    def loss(self) -> float | None:
        """Mean loss, None if it was never measured to the end."""

    @property
    def metric(self) -> float | None:
        """The rule's metric turned so that less is better, None without one."""


def votes_suffice(num_not_worse: int, num_samples: int, majority: float) -> bool:
    """Tell whether strictly more than ``floor(majority * num_samples)`` samples are not worse.

    Source: arXiv 2010.03688, section 3.1, with the authors' code's threshold of one half.

    Example:
        >>> votes_suffice(5, 10, 0.5), votes_suffice(6, 10, 0.5), votes_suffice(0, 10, 0)
        (False, True, True)
    """
    return num_not_worse >= votes_needed(num_samples, majority)


def votes_needed(num_samples: int, majority: float) -> int:
    """Return the fewest votes with which :func:`votes_suffice` is content.

    Example:
        >>> votes_needed(10, 0.5), votes_needed(10, 0)
        (6, 0)
    """
    return 0 if majority == 0 else math.floor(majority * num_samples) + 1


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


def no_higher(value: float, best: float, base: float, tolerance: float = 0.0, *, absolute: bool = False) -> bool:
    """Tell whether ``value`` is at or below ``best``, or within the tolerance of ``base``: as :func:`lower`, with ties.

    Example:
        >>> no_higher(1.0, best=1.0, base=1.0), no_higher(1.1, best=1.0, base=1.0)
        (True, False)
    """
    return value == best or lower(value, best, base, tolerance, absolute=absolute)


def gains(score: Totals, best: Totals, base: Totals, rule: Rule) -> bool:
    """Tell whether the totals of a candidate speak for it; the vote is another matter.

    The mean loss decides, or the metric. With ``rule.with_loss`` both do: the loss has to gain, and the metric must
    not get worse. A candidate without the total that decides has lost.

    Args:
        score: of the candidate.
        best: of the model with everything accepted so far.
        base: of the fine-tuned model.
        rule: what is decided by.

    Example:
        >>> from types import SimpleNamespace as Score
        >>> better, base = Score(loss=0.9, metric=None), Score(loss=1.0, metric=None)
        >>> gains(better, base, base, Rule()), gains(base, base, base, Rule())
        (True, False)
    """
    loss_gains = _holds(lower, (score.loss, best.loss, base.loss), rule.tolerance, absolute=False)
    if rule.metric is None:
        return loss_gains
    metrics = score.metric, best.metric, base.metric
    if rule.with_loss:
        return loss_gains and _holds(no_higher, metrics, rule.tolerance, absolute=True)
    return _holds(lower, metrics, rule.tolerance, absolute=True)


def _holds(
    comparison: Callable[..., bool], totals: tuple[float | None, ...], tolerance: float, *, absolute: bool
) -> bool:
    return None not in totals and comparison(*totals, tolerance, absolute=absolute)


def loss_bound(best: float, base: float, tolerance: float = 0.0) -> float:
    """Return the mean loss from which on :func:`lower` says no.

    Example:
        >>> loss_bound(0.5, base=1.0), loss_bound(0.5, base=1.0, tolerance=0.25)
        (0.5, 1.25)
    """
    return max(best, base + tolerance * abs(base)) if tolerance > 0 else best


def worth_inspecting(loss: float, best: float, factor: float) -> bool:
    """Tell whether a rejected block came near enough for its parts to be tried: ``loss < factor * best``.

    Source: the inspection factor of the authors' code (1.1).

    Example:
        >>> worth_inspecting(1.05, best=1.0, factor=1.1), worth_inspecting(1.2, best=1.0, factor=1.1)
        (True, False)
    """
    return loss < inspection_bound(best, factor)


def inspection_bound(best: float, factor: float) -> float:
    """Return the mean loss from which on :func:`worth_inspecting` says no.

    Example:
        >>> inspection_bound(2.0, 1.5), inspection_bound(-2.0, 1.5)
        (3.0, -1.0)
    """
    return best + (factor - 1) * abs(best)
