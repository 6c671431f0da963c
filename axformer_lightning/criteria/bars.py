"""What a candidate's totals have to fulfil, as bars that the verdict and early rejection share."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol


class Totals(Protocol):
    """The totals of a candidate; less is better in both."""

    @property
    def loss(self) -> float | None:
        """Mean loss, None if it was not measured to the end."""

    @property
    def metric(self) -> float | None:
        """The rule's metric, negated if higher is better; None without one."""


@dataclass(frozen=True)
class Bar:
    """A number that a total has to stay below; less is better.

    Args:
        value: the number.
        reached_is_enough: whether a total equal to it passes, too.

    Example:
        >>> Bar(1.0).passes(1.0), Bar(1.0, reached_is_enough=True).passes(1.0)
        (False, True)
    """

    value: float
    reached_is_enough: bool = False

    def passes(self, total: float) -> bool:
        """Tell whether a total is good enough; NaN never is."""
        return total < self.value or (self.reached_is_enough and total == self.value)


@dataclass(frozen=True)
class Clause:
    """One condition on a candidate: a total is below the best so far, or within the tolerance of the base.

    Args:
        total: which total.
        gains: whether it has to be below the best so far; if not, a tie is enough.
        absolute: whether the tolerance is a difference rather than a share of the base.
    """

    total: Literal["loss", "metric"]
    gains: bool = True
    absolute: bool = False

    def bar(self, best: Totals, base: Totals, tolerance: float) -> Bar | None:
        """Return the bar for the next candidate, None if a total was not measured.

        ``best``, or ``base + tolerance * |base|`` if that is higher, which it is then enough to reach.

        Args:
            best: totals of the model with everything accepted so far.
            base: totals of the fine-tuned model.
            tolerance: how far the total may fall behind ``base``.

        Example:
            >>> from types import SimpleNamespace as Score
            >>> best, base = Score(loss=0.5), Score(loss=1.0)
            >>> Clause("loss").bar(best, base, 0.0), Clause("loss").bar(best, base, 0.25)
            (Bar(value=0.5, reached_is_enough=False), Bar(value=1.25, reached_is_enough=True))
        """
        now, then = getattr(best, self.total), getattr(base, self.total)
        if now is None or then is None:
            return None
        limit = then + (tolerance if self.absolute else tolerance * abs(then))
        if tolerance > 0 and limit >= now:
            return Bar(limit, reached_is_enough=True)
        return Bar(now, reached_is_enough=not self.gains)

    def holds(self, score: Totals, best: Totals, base: Totals, tolerance: float) -> bool:
        """Tell whether a candidate's total passes the bar; arguments as of :meth:`bar`."""
        total, bar = getattr(score, self.total), self.bar(best, base, tolerance)
        return total is not None and bar is not None and bar.passes(total)


# The criteria of a rule, by name; one more row is one more rule.
CRITERIA: dict[str, tuple[Clause, ...]] = {
    "loss": (Clause("loss"),),
    "metric": (Clause("metric", absolute=True),),
    "loss_and_metric": (Clause("loss"), Clause("metric", gains=False, absolute=True)),
}


def votes_suffice(num_not_worse: int, num_samples: int, majority: float) -> bool:
    """Tell whether strictly more than ``floor(majority * num_samples)`` samples are not worse.

    Source: arXiv 2010.03688, section 3.1, with the authors' code's threshold of one half.

    Example:
        >>> votes_suffice(5, 10, 0.5), votes_suffice(6, 10, 0.5), votes_suffice(0, 10, 0)
        (False, True, True)
    """
    return num_not_worse >= votes_needed(num_samples, majority)


def votes_needed(num_samples: int, majority: float) -> int:
    """Return the fewest votes that satisfy :func:`votes_suffice`.

    Example:
        >>> votes_needed(10, 0.5), votes_needed(10, 0)
        (6, 0)
    """
    return 0 if majority == 0 else math.floor(majority * num_samples) + 1


def inspection_bar(best: float, factor: float) -> Bar:
    """Return the mean loss below which the parts of a rejected block are tried: ``factor * best``.

    Source: the inspection factor of the authors' code (1.1).

    Example:
        >>> inspection_bar(2.0, 1.5).value, inspection_bar(-2.0, 1.5).value
        (3.0, -1.0)
    """
    return Bar(best + (factor - 1) * abs(best))
