"""One round of search on one model: candidates in, scores out.

Shape suffixes: ``N`` samples of one batch.
"""

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, LayerPlan
from axformer_lightning.criteria import Rule, lower, not_worse, votes_suffice, worth_inspecting
from axformer_lightning.finding.counting import multiply_adds, watching_layers
from axformer_lightning.finding.ranks import ALONE, Ranks
from axformer_lightning.finding.settings import SearchCounts, SearchSettings
from axformer_lightning.gates import closed
from axformer_lightning.hard_attention import attending, eager_attention
from axformer_lightning.scoring import eval_mode, losses_are_nonnegative, step_of, to_device
from axformer_lightning.search import (
    Candidate,
    Outcome,
    Step,
    Trial,
    greedy_search,
    hard_attention_steps,
    pruning_steps,
    with_candidate,
)


@dataclass(frozen=True)
class Score:
    """What one pass over the search set came to.

    Args:
        loss: mean loss, None if the pass was stopped early.
        num_not_worse: samples not worse than with the fine-tuned model.
        samples_seen: samples evaluated.
        metric: the rule's metric turned so that less is better; None without one.
    """

    loss: float | None
    num_not_worse: int
    samples_seen: int
    metric: float | None = None


OnTrial = Callable[[Trial[Candidate, Score]], None]
Recorded = Callable[[Candidate], tuple[Score, float] | None]


@dataclass
class Round:
    """One round: what does not change in it, and the counts of its work.

    `batches` are those of this process. All processes go through theirs side by side, and each adds up what all of
    them measured, batch by batch in the order of the ranks: as one process that scores every batch would.
    """

    module: nn.Module
    transformer: PreTrainedModel
    anatomy: Anatomy
    batches: list[Any]
    settings: SearchSettings
    groups: tuple[tuple[int, int], ...]
    layers: tuple[LayerPlan, ...]
    ranks: Ranks = ALONE
    counts: SearchCounts = field(default_factory=SearchCounts)

    def __post_init__(self) -> None:
        self.rule = self.settings.rule
        self.score_batch = step_of(self.module, getattr(self.transformer.config, "problem_type", None))
        self.stops_early = losses_are_nonnegative(self.module) and not (
            self.settings.full_scores or self.settings.rule.metric
        )
        self.device = self.transformer.device
        self.base_losses: list[Tensor] = []
        self.num_steps = int(max(count for (count,) in self.ranks.gather([len(self.batches)])))
        sizes: list[tuple[int, int]] = []
        with watching_layers(self.transformer, lambda layer, rows, tokens: sizes.append((rows, tokens))):
            self.base = self._measure((), None, False)
        self.num_samples = self.base.samples_seen
        longest = max((tokens for _, tokens in sizes), default=0)
        told = self.ranks.gather([sum(rows for rows, _ in sizes), longest])
        self.layer_rows = int(sum(rows for rows, _ in told))  # sequences times layers that each goes through
        self.longest = int(max(tokens for _, tokens in told))

    def run(self, on_trial: OnTrial, recorded: Recorded = lambda candidate: None) -> Outcome[Candidate, Score]:
        """Try every candidate in the reference order.

        Args:
            on_trial: is told of every candidate.
            recorded: knows the score of a candidate that needs no evaluation any more, and the layer tokens with it.
        """

        def measure(candidates: tuple[Candidate, ...], best: Score, has_parts: bool) -> Score:
            known = recorded(candidates[-1])
            if known is None:
                return self._measure(candidates, best, has_parts)
            score, self.counts.layer_tokens = known
            self.counts.evaluations += 1
            return score

        outcome: Outcome[Candidate, Score] = Outcome((), self.base, ())
        for rule, steps in self._phases():
            self.rule = rule
            after = greedy_search(
                steps,
                measure,
                self._accepts,
                self._inspects,
                best=outcome.best,
                accepted=outcome.accepted,
                on_trial=on_trial,
            )
            outcome = replace(after, trials=(*outcome.trials, *after.trials))
        return outcome

    def _phases(self) -> Iterator[tuple[Rule, Iterable[Step[Candidate]]]]:
        if self.settings.hard_attention:
            yield self.settings.hard_rule or self.settings.rule, hard_attention_steps(self.layers)
        if self.settings.pruning:
            yield self.settings.rule, pruning_steps(self.layers, self.anatomy.num_heads, self.groups)

    def layers_with(self, candidates: Iterable[Candidate]) -> tuple[LayerPlan, ...]:
        """Return what is left of each layer with ``candidates`` applied."""
        layers = self.layers
        for candidate in candidates:
            layers = with_candidate(layers, candidate, self.groups, self.settings.hard_attention)
        return layers

    def _accepts(self, score: Score, best: Score) -> bool:
        rule = self.rule
        if score.loss is None or not votes_suffice(score.num_not_worse, score.samples_seen, rule.majority):
            return False
        if score.metric is not None and best.metric is not None and self.base.metric is not None:
            return lower(score.metric, best.metric, self.base.metric, rule.tolerance, absolute=True)
        return self._gains(score.loss, best)

    def _gains(self, loss: float, best: Score) -> bool:
        assert best.loss is not None
        assert self.base.loss is not None
        return lower(loss, best.loss, self.base.loss, self.rule.tolerance)

    def _inspects(self, score: Score, best: Score) -> bool:
        assert best.loss is not None
        assert self.settings.pruning is not None
        return score.loss is not None and worth_inspecting(
            score.loss, best.loss, self.settings.pruning.inspection_factor
        )

    def _measure(self, candidates: tuple[Candidate, ...], best: Score | None, has_parts: bool) -> Score:
        """Score the model with ``candidates``; without any it is the base that votes are compared with."""
        layers = self.layers_with(candidates)
        metric = self.settings.rule.metric
        if metric is not None:
            metric.reset()
            metric.to(self.device)
        self.counts.evaluations += 1
        total, num_not_worse, seen = 0.0, 0, 0
        counted = watching_layers(self.transformer, partial(self._count, layers))
        with closed(self.transformer, layers), attending(self.transformer, layers, self.layers), counted:
            for i in range(self.num_steps):
                # Every process leaves at the same step, as all see the same numbers.
                for loss, votes, samples, not_finite in self.ranks.gather(self._measure_batch(i, not candidates)):
                    if not math.isfinite(not_finite):
                        what = candidates[-1] if candidates else "the model before the search"
                        raise ValueError(
                            f"Expected finite losses on the search set, got {not_finite} while scoring {what}. The"
                            " model is as it was. Check its weights, precision and the labels."
                        )
                    total, num_not_worse, seen = total + loss, num_not_worse + int(votes), seen + int(samples)
                    if best is not None and self._is_lost(total, num_not_worse, seen, best, has_parts):
                        return Score(None, num_not_worse, seen)
        if seen == 0:
            raise ValueError(
                "Expected a search set of at least one sample, got an empty one. Pass batches with samples."
            )
        return Score(total / seen, num_not_worse, seen, _less_is_better(metric, self.ranks))

    def _measure_batch(self, i: int, is_base: bool) -> tuple[float, float, float, float]:
        """Return total loss, votes and samples of a batch of this process, and a loss that is not finite, else 0."""
        if i >= len(self.batches):
            return 0.0, 0.0, 0.0, 0.0
        loss_N, preds, target = self.score_batch(to_device(self.batches[i], self.device))
        if not loss_N.isfinite().all():
            return 0.0, 0.0, 0.0, loss_N[~loss_N.isfinite()][0].item()
        if is_base:
            self.base_losses.append(loss_N)
        if self.settings.rule.metric is not None:
            self.settings.rule.metric.update(preds, target)
        num_not_worse = not_worse(loss_N, self.base_losses[i], self.rule.tolerance).sum().item()
        return loss_N.double().sum().item(), num_not_worse, len(loss_N), 0.0

    def _is_lost(self, total: float, num_not_worse: int, seen: int, best: Score, has_parts: bool) -> bool:
        """Tell whether no outcome of the remaining samples can accept the candidate, nor have its parts tried."""
        if not self.stops_early or seen == self.num_samples:
            return False
        least = Score(total / self.num_samples, num_not_worse + self.num_samples - seen, self.num_samples)
        return not self._accepts(least, best) and not (has_parts and self._inspects(least, best))

    def _count(self, layers: Sequence[LayerPlan], layer: int, rows: int, tokens: int) -> None:
        runs = self._runs(self.layers[layer], layers[layer])
        share = multiply_adds(self.anatomy, runs, tokens) / multiply_adds(self.anatomy, LayerPlan(), tokens)
        self.counts.layer_tokens += rows * tokens * share

    @staticmethod
    def _runs(now: LayerPlan, wanted: LayerPlan) -> LayerPlan:
        """What of a layer is computed: a closed block is not, a closed head or neuron is."""
        runs = now.without_attention() if wanted.attention == "removed" else now
        return runs.without_feed_forward() if wanted.feed_forward == "removed" else runs


@contextmanager
def scoring(module: nn.Module, transformer: PreTrainedModel) -> Iterator[None]:
    """Run ``module`` in eval mode, eagerly and without gradients; restore the mode of each module afterwards."""
    # Hooks added after `torch.compile` are ignored without a word, hence the stance.
    eagerly = torch.compiler.set_stance("force_eager")
    with eval_mode(module), torch.no_grad(), eagerly, eager_attention(transformer):
        yield


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
    return -value if metric.higher_is_better else value
