"""When a candidate need not be evaluated to the end."""

from collections.abc import Sequence
from dataclasses import dataclass

from axformer_lightning.criteria import Bar, Excess, Rule, surely_more, surely_positive, votes_needed, votes_suffice
from axformer_lightning.replay.measuring import Part, num_not_worse, samples, total_loss


@dataclass(frozen=True)
class Bounds:
    """What a candidate has to stay below, and what it is compared with.

    Args:
        rule: whose vote it needs.
        best_loss: mean loss with everything accepted so far.
        loss: the bar for its mean loss.
        inspection: the bar below which its parts would be tried; None where it has none.
        num_samples: samples of the search set.
    """

    rule: Rule
    best_loss: float
    loss: Bar
    inspection: Bar | None
    num_samples: int


def is_lost(parts: Sequence[Part], bounds: Bounds) -> bool:
    """Tell whether no outcome of the remaining samples can accept a candidate, nor have its parts tried.

    No loss is below zero, and the vote can only grow by what is left.

    Args:
        parts: what was measured so far.
        bounds: of the candidate.
    """
    left = bounds.num_samples - samples(parts)
    if left == 0:
        return False
    least, most_votes = total_loss(parts) / bounds.num_samples, num_not_worse(parts) + left
    outvoted = not votes_suffice(most_votes, bounds.num_samples, bounds.rule.majority)
    rejected = outvoted or not bounds.loss.passes(least)
    return rejected and (bounds.inspection is None or not bounds.inspection.passes(least))


class Watch:
    """Tells when a candidate is surely lost, from what its samples came to compared with the best so far.

    Args:
        bounds: of the candidate.
        best_parts: what the best so far came to, batch by batch.
        confidence: with which a candidate that would be accepted is not stopped early.
    """

    def __init__(self, bounds: Bounds, best_parts: Sequence[Part], confidence: float) -> None:
        self.bounds = bounds
        self.best_parts = best_parts
        self.error = 1 - confidence
        self._loss = Excess(bounds.loss.value)
        self._inspection = Excess(bounds.inspection.value if bounds.inspection else 0.0)

    def is_surely_lost(self, parts: Sequence[Part]) -> bool:
        """Take in the last of ``parts``, and tell whether the candidate may be stopped early."""
        part, best, bounds = parts[-1], self.best_parts[len(parts) - 1], self.bounds
        n, more = int(part.samples), part.loss - best.loss
        self._loss = self._loss.plus(more - n * (bounds.loss.value - bounds.best_loss), n)
        if bounds.inspection is not None:
            self._inspection = self._inspection.plus(more - n * (bounds.inspection.value - bounds.best_loss), n)
            if not surely_positive(self._inspection, bounds.num_samples, self.error):
                return False
        has_vote = bounds.rule.majority > 0
        error = self.error / 2 if has_vote else self.error  # what can reject it shares the error
        return surely_positive(self._loss, bounds.num_samples, error) or (has_vote and self._is_outvoted(parts, error))

    def _is_outvoted(self, parts: Sequence[Part], error: float) -> bool:
        seen, num_samples = samples(parts), self.bounds.num_samples
        most_worse = num_samples - votes_needed(num_samples, self.bounds.rule.majority)
        return surely_more(seen - num_not_worse(parts), seen, most_worse, num_samples, error)
