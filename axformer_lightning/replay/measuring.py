"""One pass over the search set: batches in, a score out.

Shape suffixes: ``N`` samples of one batch.
"""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from axformer_lightning.criteria import correct, not_turned_wrong, not_worse
from axformer_lightning.replay.ranks import Ranks
from axformer_lightning.scoring import Scored

NO_SAMPLES = "Expected a search set of at least one sample with a label, got none. Pass batches with labelled samples."


@dataclass(frozen=True)
class Score:
    """The result of one pass over the search set.

    Args:
        loss: mean loss, None if the pass was stopped early.
        num_not_worse: samples not worse than with the fine-tuned model.
        samples_seen: samples evaluated.
        metric: the rule's metric, negated if higher is better; None without one.
    """

    loss: float | None
    num_not_worse: int
    samples_seen: int
    metric: float | None = None


class Part(NamedTuple):
    """The measurements of one process on one batch.

    Args:
        loss: sum of the losses.
        num_not_worse: samples not worse than with the fine-tuned model.
        samples: samples in the batch.
        not_finite: a loss that is not finite; 0 if all are finite.
    """

    loss: float = 0.0
    num_not_worse: float = 0.0
    samples: float = 0.0
    not_finite: float = 0.0


Ends = Callable[[Sequence[Part]], bool]


def never(parts: Sequence[Part]) -> bool:
    """Run a pass to its end."""
    return False


@dataclass(frozen=True)
class Base:
    """The results of the fine-tuned model on every batch of this process, which votes compare with.

    Args:
        losses: the loss of every sample.
        correct: whether each sample is predicted right; empty if votes compare losses.
    """

    losses: Sequence[Tensor]
    correct: Sequence[Tensor]

    @classmethod
    def of(cls, results: Sequence[Scored], vote: str) -> "Base":
        """Return what votes need from a whole pass; ``vote`` as in :class:`~axformer_lightning.criteria.Rule`."""
        right = [correct(s.preds, s.target, len(s.loss_N)) for s in results if vote == "prediction"]
        return cls([scored.loss_N for scored in results], right)

    def votes(self, i: int, scored: Scored, tolerance: float) -> Tensor:
        """Return which samples of a batch are not worse, shape ``(N,)``."""
        if self.correct:
            right_N = correct(scored.preds, scored.target, len(scored.loss_N))
            return not_turned_wrong(right_N, self.correct[i])
        return not_worse(scored.loss_N, self.losses[i], tolerance)


@dataclass(frozen=True)
class Meter:
    """How a model is scored, pass by pass.

    All processes go through their batches in step, and each adds up the measurements of all, batch by batch in the
    order of the ranks, like one process that scores every batch.

    Args:
        num_batches: batches of this process.
        num_steps: batches of the process that has most.
        metric: the rule's metric, if any.
        ranks: the processes that share the search.
        device: where the model is.
        base: what votes compare with; None while the base itself is measured, when every sample ties.
    """

    num_batches: int
    num_steps: int
    metric: Metric | None
    ranks: Ranks
    device: torch.device
    base: Base | None = None

    def measure(
        self, score: Callable[[int], Scored], ends: Ends, what: str, tolerance: float = 0.0
    ) -> tuple[Score, list[Part]]:
        """Score the model, and return the measurements of every batch of every process, too.

        Args:
            score: scores the batch of an index.
            ends: called with all parts so far; tells whether the pass can stop.
            what: name of what is scored, for messages.
            tolerance: of the votes.

        Raises:
            ValueError: if a loss is not finite, there is no sample, or processes disagree on the metric.
        """
        if self.metric is not None:
            self.metric.reset()
            self.metric.to(self.device)
        parts: list[Part] = []
        for i in range(self.num_steps):
            # Every process stops at the same step, as all see the same numbers.
            own = self._part(i, score(i), tolerance) if i < self.num_batches else Part()
            for part in self.ranks.gather(own):
                parts.append(Part(*part))
                check_finite(parts[-1].not_finite, what)
                if ends(parts):
                    return Score(None, num_not_worse(parts), samples(parts)), parts
        if samples(parts) == 0:
            raise ValueError(NO_SAMPLES)
        value = _less_is_better(self.metric, self.ranks)
        return Score(total_loss(parts) / samples(parts), num_not_worse(parts), samples(parts), value), parts

    def _part(self, i: int, scored: Scored, tolerance: float) -> Part:
        loss_N = scored.loss_N
        votes_N = loss_N.new_ones(len(loss_N)) if self.base is None else self.base.votes(i, scored, tolerance)
        # One transfer from the device for all numbers of a batch; infinity minus infinity is NaN.
        numbers = torch.stack([loss_N.double().sum(), votes_N.sum().double(), (loss_N - loss_N).double().sum()])
        loss, votes, zero = numbers.tolist()
        if zero != 0:
            return Part(not_finite=loss_N[~loss_N.isfinite()][0].item())
        if self.metric is not None and len(loss_N):  # many metrics refuse to be told nothing
            self.metric.update(scored.preds, scored.target)
        return Part(loss, votes, len(loss_N))


def check_finite(value: float, what: str) -> None:
    """Refuse a loss that is not finite.

    Raises:
        ValueError: saying which it is, and of what.
    """
    if not math.isfinite(value):
        raise ValueError(
            f"Expected finite losses on the search set, got {value} while scoring {what}. The model is unchanged. Check"
            " its weights, its precision and the labels."
        )


def total_loss(parts: Sequence[Part]) -> float:
    """Return the sum of the losses, added in order."""
    return sum(part.loss for part in parts)


def num_not_worse(parts: Sequence[Part]) -> int:
    """Return how many samples are not worse."""
    return int(sum(part.num_not_worse for part in parts))


def samples(parts: Sequence[Part]) -> int:
    """Return how many samples there are."""
    return int(sum(part.samples for part in parts))


def turned(value: float | None, metric: Metric | None) -> float | None:
    """Negate the value of a metric if higher is better, so that less is better; or turn such a value back."""
    return -value if value is not None and metric is not None and metric.higher_is_better else value


def _less_is_better(metric: Metric | None, ranks: Ranks) -> float | None:
    if metric is None:
        return None
    value = float(metric.compute())  # over all processes
    metric.reset()
    if not ranks.agree([struct.pack("d", value)]):
        raise ValueError(
            f"Expected one value of {type(metric).__name__} for all processes, got several. Leave its"
            " `sync_on_compute=True`."
        )
    return turned(value, metric)
