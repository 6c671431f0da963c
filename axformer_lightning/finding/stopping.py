"""When a candidate need not be evaluated to the end."""

from collections.abc import Sequence
from dataclasses import dataclass

from axformer_lightning.criteria import (
    Excess,
    Rule,
    inspection_bound,
    loss_bound,
    share_needed,
    surely_rejected,
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
        self.confidence = confidence
        self.needed = share_needed(bounds.num_samples, bounds.rule.majority)
        self._loss = Excess(bounds.loss)
        self._votes = Excess(1 - self.needed)
        self._inspection = Excess(bounds.inspection or 0.0)

    def is_surely_lost(self, parts: Sequence[Part]) -> bool:
        """Take in the last of ``parts``, and tell whether the candidate may be given up."""
        part, best = parts[-1], self.best_parts[len(parts) - 1]
        n, more, bounds = int(part.samples), part.loss - best.loss, self.bounds
        assert bounds.best.loss is not None
        self._loss = self._loss.plus(more - n * (bounds.loss - bounds.best.loss), n)
        self._votes = self._votes.plus(n * self.needed - part.num_not_worse, n)
        excesses = [self._loss, self._votes] if bounds.rule.majority > 0 else [self._loss]
        is_rejected = surely_rejected(excesses, bounds.num_samples, self.confidence)
        if bounds.inspection is None:
            return is_rejected
        self._inspection = self._inspection.plus(more - n * (bounds.inspection - bounds.best.loss), n)
        return is_rejected and surely_rejected([self._inspection], bounds.num_samples, self.confidence)
