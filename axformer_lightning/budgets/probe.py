"""Measuring a model as it would be left: cut, repaired, on the task.

Shape suffixes: ``N`` samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import SearchSpace, anatomy_of, layers_left
from axformer_lightning.budgets.answers import Answers, answers_of, divergence_of
from axformer_lightning.budgets.damage import Damage, Sums
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
from axformer_lightning.replay.measuring import NO_SAMPLES, check_finite
from axformer_lightning.replay.records import SHARE_OF_FREE_MEMORY
from axformer_lightning.scoring import Scored, step_of, to_device

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
        samples: how many all processes have.
        ranks: the processes that share the search set.
        answers: of the model as the search began, if it chooses among alternatives.
    """

    left: AsLeft
    batches: Sequence[Any]
    step: Callable[[Any], Scored]
    results: Sequence[Scored]
    samples: int
    ranks: Ranks = ALONE
    answers: Answers = None

    @classmethod
    def of(
        cls,
        module: nn.Module,
        transformer: PreTrainedModel,
        batches: Sequence[Any],
        moments: Moments,
        *,
        ranks: Ranks = ALONE,
        cache_memory: int | None = None,
        repairs: bool = True,
        bf16: bool = False,
        answers: Answers = None,
    ) -> "Probe":
        """Run a model as it is, and keep what later measurements need.

        Args:
            module: what is scored; in eval mode, without gradients (:func:`~axformer_lightning.replay.scoring`).
            transformer: what is cut.
            batches: the search set of this process, shuffled.
            moments: of the model as it is.
            ranks: the processes that share the search set.
            cache_memory: bytes for what is kept, by default a quarter of what is free.
            repairs: see :class:`~axformer_lightning.repair.AsLeft`.
            bf16: whether the model runs under autocast to bfloat16.
            answers: of the model as the search began, to the same batches; by default those of the model as it is.

        Raises:
            ValueError: if no sample has a label, or a loss is not finite.
        """
        device = transformer.device
        share = free_memory(device) // SHARE_OF_FREE_MEMORY // ranks.size
        if size_of(batches) <= share:
            batches = to_device(list(batches), device)
        score = step_of(module, getattr(transformer.config, "problem_type", None))

        def step(batch: Any) -> Scored:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                return score(to_device(batch, device))

        anatomy, before = anatomy_of(transformer), layers_left(transformer)
        records = Records(share if cache_memory is None else cache_memory, anatomy.num_layers)
        space = SearchSpace(anatomy.num_heads, ((0, anatomy.intermediate_size),))
        whole = Replay(transformer, anatomy, before, space, records, Work(), shares_blocks=False)
        found = first_pass(whole, step, batches, ranks, Reads.FIRST_TOKEN)
        left = AsLeft(found.replay, moments, repairs=repairs)
        counts = ranks.gather([float(sum(len(result.loss_N) for result in found.results))])
        samples = int(sum(count for (count,) in counts))
        if samples == 0:
            raise ValueError(NO_SAMPLES)
        losses_N = torch.cat([result.loss_N for result in found.results]) if found.results else torch.zeros(0)
        for (value,) in ranks.gather([next(iter(losses_N[~losses_N.isfinite()].tolist()), 0.0)]):
            check_finite(value, "the model as it is")
        if answers is None:
            answers = answers_of(found.results, ranks)
        return cls(left, batches, step, found.results, samples, ranks, answers)

    def loss(self) -> float:
        """Return the mean loss of the model as it is, as it stands."""
        own = sum(float(result.loss_N.double().sum()) for result in self.results)
        return sum(loss for (loss,) in self.ranks.gather([own])) / self.samples

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
        sums = Sums()
        num_batches = len(self.batches) if most is None else min(most, len(self.batches))
        steps = int(max(count for (count,) in self.ranks.gather([num_batches])))
        with self.left.running(layers, like) as model:
            for i in range(steps):
                own = Sums()
                if i < num_batches:
                    own = self._sums(i, model.step(i, partial(self.step, self.batches[i])))
                sums = sums.plus(self.ranks.gather(own.values()))
                damage = sums.damage()
                if not damage.is_finite or ends(damage):
                    break
        return sums.damage()

    @cached_property
    def _as_is(self) -> list[Tensor]:
        return [self._judged(i, scored) for i, scored in enumerate(self.results)]

    def _judged(self, i: int, scored: Scored) -> Tensor:
        """Return by what each sample of a batch is judged, shape ``(N,)``."""
        return scored.loss_N if self.answers is None else divergence_of(scored, self.answers[i])

    def _sums(self, i: int, scored: Scored) -> Sums:
        raw_N = (scored.loss_N - self.results[i].loss_N).double()
        change_N = (self._judged(i, scored) - self._as_is[i]).double()
        loss, mean, squares = torch.stack([raw_N.sum(), change_N.sum(), change_N.square().sum()]).tolist()
        return Sums(len(change_N), loss, mean, squares)
