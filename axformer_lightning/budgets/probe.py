"""Measuring a model as it would be left: cut, repaired, on the task.

Shape suffixes: ``N`` samples, ``L`` labels, ``T`` tokens.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from axformer_lightning.anatomy import SearchSpace, anatomy_of, layers_left
from axformer_lightning.repair import AsLeft, Layers, Moments, Repair
from axformer_lightning.replay import (
    ALONE,
    Ranks,
    Reads,
    Records,
    Replay,
    Work,
    first_pass,
    free_memory,
    size_of,
)
from axformer_lightning.replay.records import SHARE_OF_FREE_MEMORY
from axformer_lightning.scoring import Scored, step_of, to_device


@dataclass(frozen=True)
class Damage:
    """What a cut does to a model, on the search set.

    Args:
        loss: the mean loss, less that of the model as it is.
        loss_error: standard error of that mean over samples.
        divergence: from the outputs of the dense model: the mean Kullback-Leibler divergence, or for numbers the
            squared error; None where a module scores its batches itself.
        samples: how many were measured; not all where the pass was stopped early.
    """

    loss: float
    loss_error: float
    divergence: float | None
    samples: int

    @property
    def is_finite(self) -> bool:
        """Whether both are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.divergence or 0.0)


@dataclass(frozen=True)
class Sums:
    """Sums over samples, of which a :class:`Damage` is made."""

    samples: float = 0.0
    loss: float = 0.0
    squares: float = 0.0
    divergence: float = 0.0

    def plus(self, others: Sequence[Sequence[float]]) -> "Sums":
        """Return the sums with those of every process added."""
        return Sums(*(sum(values) for values in zip(self._values(), *others, strict=True)))

    def damage(self, has_logits: bool) -> Damage:
        """Return the means."""
        n = max(1.0, self.samples)
        mean = self.loss / n
        variance = max(0.0, self.squares / n - mean**2)
        return Damage(mean, math.sqrt(variance / n), self.divergence / n if has_logits else None, int(self.samples))

    def _values(self) -> tuple[float, ...]:
        return self.samples, self.loss, self.squares, self.divergence


Ends = Callable[[Damage], bool]


def never(damage: Damage) -> bool:
    """Let a pass go on to its end."""
    return False


@dataclass(frozen=True)
class Probe:
    """A model, measured as it would be left.

    Args:
        left: runs the model as it would be left.
        batches: the search set of this process.
        step: scores one batch.
        results: what each batch comes to as the model is.
        dense: the logits of the dense model on each batch; of a model that has been cut already those from before.
        ranks: the processes that share the search set.
    """

    left: AsLeft
    batches: Sequence[Any]
    step: Callable[[Any], Scored]
    results: Sequence[Scored]
    dense: Sequence[Any]
    ranks: Ranks = ALONE

    @classmethod
    def of(
        cls,
        module: nn.Module,
        transformer: PreTrainedModel,
        batches: Sequence[Any],
        moments: Moments,
        *,
        dense: Sequence[Any] | None = None,
        ranks: Ranks = ALONE,
        cache_memory: int | None = None,
        repairs: bool = True,
    ) -> "Probe":
        """Run a model as it is, and keep what later measurements need.

        Args:
            module: what is scored; in eval mode, without gradients (:func:`~axformer_lightning.replay.scoring`).
            transformer: what is cut.
            batches: the search set of this process, shuffled.
            moments: of the model as it is.
            dense: the logits of the dense model, by default those that the model gives now.
            ranks: the processes that share the search set.
            cache_memory: bytes for what is kept, by default a quarter of what is free.
            repairs: see :class:`~axformer_lightning.repair.AsLeft`.
        """
        device = transformer.device
        share = free_memory(device) // SHARE_OF_FREE_MEMORY // ranks.size
        if size_of(batches) <= share:
            batches = to_device(list(batches), device)
        score = step_of(module, getattr(transformer.config, "problem_type", None))

        def step(batch: Any) -> Scored:
            return score(to_device(batch, device))

        anatomy, before = anatomy_of(transformer), layers_left(transformer)
        records = Records(share if cache_memory is None else cache_memory, anatomy.num_layers)
        space = SearchSpace(anatomy.num_heads, ((0, anatomy.intermediate_size),))
        whole = Replay(transformer, anatomy, before, space, records, Work(), shares_blocks=False)
        found = first_pass(whole, step, batches, ranks, Reads.FIRST_TOKEN)
        logits = [_logits(result) for result in found.results]
        dense = logits if dense is None else dense
        return cls(AsLeft(found.replay, moments, repairs=repairs), batches, step, found.results, dense, ranks)

    def loss(self) -> float:
        """Return the mean loss of the model as it is."""
        losses = [result.loss_N.double() for result in self.results]  # none where another process has all batches
        every = self.ranks.gather([sum(float(loss_N.sum()) for loss_N in losses), float(sum(map(len, losses)))])
        return sum(loss for loss, _ in every) / sum(samples for _, samples in every)

    def repair_of(self, layers: Layers) -> Repair:
        """Return how the model is repaired once it is cut to ``layers``."""
        return self.left.repair_of(layers)

    @property
    def replay(self) -> Replay:
        """Runs of the model what a cut changes."""
        return self.left.replay

    @property
    def moments(self) -> Moments:
        """Of the model as it is."""
        return self.left.moments

    def measure(
        self, layers: Layers, ends: Ends = never, *, like: Layers | None = None, most: int | None = None
    ) -> Damage:
        """Return what it does to cut the model to ``layers`` and repair it.

        Args:
            layers: what is to be left.
            ends: is called with the damage so far, and tells whether that is enough.
            like: layers of which those below the first that differs need not be run again: what they put out is looked
                up, or kept for the next time. By default those of the model as it is.
            most: batches to measure, by default all.
        """
        sums, has_logits = Sums(), all(logits is not None for logits in self.dense)
        num_batches = len(self.batches) if most is None else min(most, len(self.batches))
        steps = int(max(count for (count,) in self.ranks.gather([num_batches])))
        with self.left.running(layers, like) as model:
            for i in range(steps):
                own = Sums()
                if i < num_batches:
                    own = self._sums(i, model.step(i, partial(self.step, self.batches[i])), has_logits)
                sums = sums.plus(self.ranks.gather(own._values()))
                damage = sums.damage(has_logits)
                if not damage.is_finite or ends(damage):
                    break
        return sums.damage(has_logits)

    def _sums(self, i: int, scored: Scored, has_logits: bool) -> Sums:
        change_N = (scored.loss_N - self.results[i].loss_N).double()
        apart = divergence(_logits(scored), self.dense[i]) if has_logits else 0.0
        loss, squares = torch.stack([change_N.sum(), change_N.square().sum()]).tolist()
        return Sums(len(change_N), loss, squares, apart * len(change_N))


def divergence(logits: Any, dense: Any) -> float:
    """Return how far outputs are from those of the dense model: a mean over samples.

    For classes the Kullback-Leibler divergence from the dense model's distribution, for one number the squared error;
    for start and end the mean of both.

    Args:
        logits: shape ``(N, L)`` or ``(N, T, L)``, or a pair of ``(N, T)``.
        dense: likewise.

    Example:
        >>> divergence(torch.zeros(2, 3), torch.zeros(2, 3)), divergence(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
        (0.0, 4.0)
    """
    if isinstance(logits, tuple | list):
        return sum(divergence(mine, theirs) for mine, theirs in zip(logits, dense, strict=True)) / len(logits)
    logits, dense = logits.double(), dense.double()
    if logits.dim() == 1 or logits.shape[-1] == 1:
        return float((logits - dense).square().mean())
    log_probs, targets = functional.log_softmax(logits, -1), functional.log_softmax(dense, -1)
    apart: Tensor = functional.kl_div(log_probs, targets, reduction="none", log_target=True).sum(-1)
    return float(apart.mean())


def _logits(scored: Scored) -> Any:
    """Return the logits, or None where a module scores its batches itself."""
    return getattr(scored, "logits", None)
