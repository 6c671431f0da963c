"""One round of search on one model: candidates in, scores out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, LayerPlan
from axformer_lightning.criteria import gains, votes_suffice, worth_inspecting
from axformer_lightning.finding.first_order import predicted_changes
from axformer_lightning.finding.first_pass import first_pass
from axformer_lightning.finding.measuring import Ends, Meter, Part, Score
from axformer_lightning.finding.ranks import ALONE, Ranks
from axformer_lightning.finding.reads import Reads
from axformer_lightning.finding.records import SHARE_OF_FREE_MEMORY, Records, free_memory, size_of
from axformer_lightning.finding.replay import Replay
from axformer_lightning.finding.settings import SearchCounts, SearchSettings
from axformer_lightning.finding.stopping import Bounds, Watch, is_lost
from axformer_lightning.gates import closed
from axformer_lightning.hard_attention import attending
from axformer_lightning.scoring import Scored, losses_are_nonnegative, step_of, to_device
from axformer_lightning.search import (
    Candidate,
    Outcome,
    Step,
    Trial,
    greedy_search,
    hard_attention_steps,
    ordered,
    pruning_steps,
    repeat_sweeps,
    with_candidate,
)

OnTrial = Callable[[Trial[Candidate, Score]], None]
Recorded = Callable[[Candidate], tuple[Score, float] | None]
Candidates = tuple[Candidate, ...]


@dataclass
class Round:
    """One round: what does not change in it, and the counts of its work. `batches` are those of this process."""

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
        settings, device = self.settings, self.transformer.device
        self.rule = settings.rule
        self._score_batch = step_of(self.module, getattr(self.transformer.config, "problem_type", None))
        self._stops_early = losses_are_nonnegative(self.module) and not settings.full_scores
        if settings.early_stop == "statistical":
            order = torch.randperm(len(self.batches), generator=torch.Generator().manual_seed(0)).tolist()
            self.batches = [self.batches[i] for i in order]  # by length they would be no sample of the whole
        share = free_memory(device) // SHARE_OF_FREE_MEMORY // self.ranks.size
        if size_of(self.batches) <= share:  # else each is moved as often as it is scored
            self.batches = to_device(self.batches, device)
        budget = share if settings.cache_memory is None else settings.cache_memory
        self.replay = Replay(
            self.transformer,
            self.layers,
            self.groups,
            settings.hard_attention,
            Records(budget, self.anatomy.num_layers),
            shares_blocks=settings.shortcuts.share_blocks,
        )
        most = Reads.FIRST_TOKEN if settings.shortcuts.first_token else Reads.LAST_LAYER
        results, self.sizes = first_pass(self.replay, self._score, self.batches, self.ranks, most)
        # What runs the first token alone differs by rounding from what runs all: its base has to be measured so too.
        self._known = [] if self.replay.reads == Reads.FIRST_TOKEN else results
        self.meter = Meter(
            self._replay, len(self.batches), settings.rule.metric, settings.rule.vote, self.ranks, device
        )
        self._parts: dict[Candidates, list[Part]] = {}  # of all that was evaluated to the end
        self._scores: dict[Candidates, Score] = {}
        self.base = self._measure((), None, False)
        self._known = []
        self.num_samples = self.base.samples_seen

    def run(self, on_trial: OnTrial, recorded: Recorded = lambda candidate: None) -> Outcome[Candidate, Score]:
        """Try every candidate.

        Args:
            on_trial: is told of every candidate.
            recorded: knows the score of a candidate that needs no evaluation any more, and the layer tokens with it.
        """

        def measure(candidates: Candidates, best: Score, has_parts: bool) -> Score:
            known = recorded(candidates[-1])
            if known is not None:
                self._scores[candidates], self.replay.work.layer_tokens = known
                self.counts.evaluations += 1
            elif candidates not in self._scores:  # a later sweep may come back to what an earlier one has tried
                self._scores[candidates] = self._measure(candidates, best, has_parts)
            return self._scores[candidates]

        def sweep(steps: Iterable[Step[Candidate]], accepted: Candidates, best: Score) -> Outcome[Candidate, Score]:
            return greedy_search(
                steps, measure, self._accepts, self._inspects, best=best, accepted=accepted, on_trial=on_trial
            )

        outcome: Outcome[Candidate, Score] = Outcome((), self.base, ())
        if self.settings.hard_attention:
            self.rule = self.settings.hard_rule or self.settings.rule
            outcome = sweep(hard_attention_steps(self.layers), (), self.base)
        if self.settings.pruning:
            self.rule = self.settings.rule
            self._scores.clear()  # votes may have been counted with another tolerance
            after = repeat_sweeps(
                lambda accepted, best: sweep(self._pruning_steps(accepted), accepted, best),
                self.settings.pruning.sweeps,
                best=outcome.best,
                accepted=outcome.accepted,
            )
            outcome = replace(after, trials=(*outcome.trials, *after.trials))
        return outcome

    def _pruning_steps(self, accepted: Candidates) -> Iterable[Step[Candidate]]:
        layers = self.layers_with(accepted)
        steps = pruning_steps(layers, self.anatomy.num_heads, self.groups)
        assert self.settings.pruning is not None
        if self.settings.pruning.strategy == "reference":
            return steps
        with closed(self.transformer, layers), attending(self.transformer, layers, self.layers):
            changes = predicted_changes(
                self._score, self.batches, self.transformer, self.anatomy, self.layers, self.groups
            )
        told = self.ranks.gather(list(changes.values()))
        return ordered(steps, dict(zip(changes, map(sum, zip(*told, strict=True)), strict=True)).__getitem__)

    def layers_with(self, candidates: Iterable[Candidate]) -> tuple[LayerPlan, ...]:
        """Return what is left of each layer with ``candidates`` applied."""
        layers = self.layers
        for candidate in candidates:
            layers = with_candidate(layers, candidate, self.groups, self.settings.hard_attention)
        return layers

    def _accepts(self, score: Score, best: Score) -> bool:
        return (
            score.loss is not None
            and votes_suffice(score.num_not_worse, score.samples_seen, self.rule.majority)
            and gains(score, best, self.base, self.rule)
        )

    def _inspects(self, score: Score, best: Score) -> bool:
        assert best.loss is not None
        assert self.settings.pruning is not None
        return score.loss is not None and worth_inspecting(
            score.loss, best.loss, self.settings.pruning.inspection_factor
        )

    def _measure(self, candidates: Candidates, best: Score | None, has_parts: bool) -> Score:
        """Score the model with ``candidates``; without any it is the base that votes are compared with."""
        stops_early = self._stops_early and self.rule.needs_loss
        ends = self._ends(candidates, best, has_parts) if best and stops_early else _never
        self.counts.evaluations += 1
        what = str(candidates[-1]) if candidates else "the model before the search"
        with self.replay.running(candidates):
            score, parts = self.meter.measure(self.rule, ends, what)
        if score.loss is not None:
            self._parts[candidates] = parts
        return score

    def _ends(self, candidates: Candidates, best: Score, has_parts: bool) -> Ends:
        """Return what tells whether a candidate need not be evaluated any further."""
        pruning = self.settings.pruning
        assert self.base.loss is not None
        factor = pruning.inspection_factor if pruning and has_parts else None
        bounds = Bounds(self.rule, best, self.base.loss, factor, self.num_samples)
        if self.settings.early_stop == "exact":
            return lambda parts: is_lost(parts, bounds)
        if candidates[:-1] not in self._parts:  # taken over from a journal, which holds sums alone
            self._measure(candidates[:-1], None, False)
        watch = Watch(bounds, self._parts[candidates[:-1]], self.settings.confidence)
        # Both are asked of every batch: the watch has to see each.
        return lambda parts: watch.is_surely_lost(parts) | is_lost(parts, bounds)

    def _score(self, batch: Any) -> Scored:
        return self._score_batch(to_device(batch, self.transformer.device))

    def _replay(self, i: int) -> Scored:
        if self._known:
            return self._known[i]
        self.replay.begin(i)
        return self._score(self.batches[i])


def _never(parts: Sequence[Part]) -> bool:
    return False
