"""When a candidate need not be evaluated to the end."""

from collections.abc import Sequence
from dataclasses import dataclass

from axformer_lightning.criteria import (
    Excess,
    Rule,
    inspection_bound,
    loss_bound,
    surely_more,
    surely_positive,
    votes_needed,
    votes_suffice,
)
from axformer_lightning.finding.measuring import Part, Score, num_not_worse, samples, total_loss


@dataclass(frozen=True)
class Bounds:
    """What a candidate has to stay below, and what it is compared with.

    Args:
        rule: when it is accepted.
        best: score of what has been accepted so far.
        base_loss: mean loss of the fine-tuned model.
        inspection_factor: of the pruning, where the parts of a rejected candidate would be tried; else None.
        num_samples: samples of the search set.
    """

    rule: Rule
    best: Score
    base_loss: float
    inspection_factor: float | None
    num_samples: int

    @property
    def loss(self) -> float:
        """The mean loss from which on the candidate is not accepted."""
        assert self.best.loss is not None
        return loss_bound(self.best.loss, self.base_loss, self.rule.tolerance)

    @property
    def inspection(self) -> float | None:
        """The mean loss from which on its parts are not tried either; None if it has none."""
        assert self.best.loss is not None
        return None if self.inspection_factor is None else inspection_bound(self.best.loss, self.inspection_factor)


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
    is_above = _is_above(least, bounds.loss, bounds.rule)
    rejected = is_above or not votes_suffice(most_votes, bounds.num_samples, bounds.rule.majority)
    return rejected and (bounds.inspection is None or least >= bounds.inspection)


def _is_above(loss: float, bound: float, rule: Rule) -> bool:
    return loss > bound if rule.tolerance > 0 else loss >= bound


class Watch:
    """Tells when a candidate is surely lost, from what its samples came to compared with the best so far.

    Args:
        bounds: of the candidate.
        best_parts: what the best so far came to, batch by batch.
        confidence: with which a candidate that would be accepted is not given up.
    """

    def __init__(self, bounds: Bounds, best_parts: Sequence[Part], confidence: float) -> None:
        self.bounds = bounds
        self.best_parts = best_parts
        self.error = 1 - confidence
        self._loss = Excess(bounds.loss)
        self._inspection = Excess(bounds.inspection or 0.0)

    def is_surely_lost(self, parts: Sequence[Part]) -> bool:
        """Take in the last of ``parts``, and tell whether the candidate may be given up."""
        part, best, bounds = parts[-1], self.best_parts[len(parts) - 1], self.bounds
        assert bounds.best.loss is not None
        n, more = int(part.samples), part.loss - best.loss
        self._loss = self._loss.plus(more - n * (bounds.loss - bounds.best.loss), n)
        if bounds.inspection is not None:
            self._inspection = self._inspection.plus(more - n * (bounds.inspection - bounds.best.loss), n)
            if not surely_positive(self._inspection, bounds.num_samples, self.error):
                return False
        has_vote = bounds.rule.majority > 0
        error = self.error / 2 if has_vote else self.error  # what can reject it shares the error
        return surely_positive(self._loss, bounds.num_samples, error) or (has_vote and self._is_outvoted(parts, error))

    def _is_outvoted(self, parts: Sequence[Part], error: float) -> bool:
        seen, num_samples = samples(parts), self.bounds.num_samples
        most_worse = num_samples - votes_needed(num_samples, self.bounds.rule.majority)
        return surely_more(seen - num_not_worse(parts), seen, most_worse, num_samples, error)
