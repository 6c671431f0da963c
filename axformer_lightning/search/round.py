"""One round of search on one model: candidates in, decisions out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from axformer_lightning.anatomy import KINDS, Candidate, LayerPlan, SearchSpace, with_candidates
from axformer_lightning.criteria import inspection_bar, votes_suffice
from axformer_lightning.gates import closed
from axformer_lightning.hard_attention import attending
from axformer_lightning.int8 import observing
from axformer_lightning.repair import AsLeft, ladders_of
from axformer_lightning.replay import Ends, Part, Score, never
from axformer_lightning.search.baseline import Baseline
from axformer_lightning.search.first_order import predicted_changes
from axformer_lightning.search.greedy import Outcome, Step, Trial, greedy_search, repeat_sweeps
from axformer_lightning.search.phases import Phase, phases_of
from axformer_lightning.search.settings import SearchCounts, SearchSettings
from axformer_lightning.search.steps import ordered, steps_of
from axformer_lightning.search.stopping import Bounds, Watch, is_lost

OnTrial = Callable[[Trial[Candidate, Score]], None]
Recorded = Callable[[Candidate], tuple[Score, float] | None]
Candidates = tuple[Candidate, ...]


@dataclass(frozen=True)
class Round:
    """One round: a measured baseline, what is searched for, and the counts of its work.

    Args:
        baseline: the model before the round.
        space: what the indices of candidates stand for.
        settings: what is searched for and how it is judged.
        stops_early: whether a candidate that is lost need not be evaluated to the end.
        counts: of the work.
        parts: what every batch reached, of all that was evaluated to the end.
        left: runs the model as candidates would leave it, repaired; None where nothing is repaired.
    """

    baseline: Baseline
    space: SearchSpace
    settings: SearchSettings
    stops_early: bool = True
    counts: SearchCounts = field(default_factory=SearchCounts)
    parts: dict[Candidates, Sequence[Part]] = field(default_factory=dict)
    left: AsLeft | None = None

    def run(
        self, on_trial: OnTrial, recorded: Recorded = lambda candidate: None
    ) -> tuple[Outcome[Candidate, Score], "Round"]:
        """Go through every phase; return what came of it, and the round as it was in the last phase.

        Args:
            on_trial: is called with every trial.
            recorded: knows the score of a candidate that needs no evaluation any more, and the layer tokens with it.
        """
        outcome: Outcome[Candidate, Score] = Outcome((), self.baseline.score, ())
        now = self
        for phase in phases_of(self.settings):
            now = self
            if phase.repairs:
                now = self._repairing(outcome.accepted)
            elif phase.calibrates:
                now = self._calibrated(outcome.accepted)
            scores: dict[Candidates, Score] = {}  # of this phase alone: votes depend on its tolerance
            sweep = partial(now._sweep, phase, scores, on_trial, recorded)
            after = repeat_sweeps(sweep, phase.sweeps, best=outcome.best, accepted=outcome.accepted)
            outcome = replace(after, trials=(*outcome.trials, *after.trials))
        return outcome, now

    def _repairing(self, accepted: Candidates) -> "Round":
        """Return the round in which what is left is repaired, with the hard attention that was accepted before."""
        replay, layers = self.baseline.replay, self.layers_with(accepted)
        left = AsLeft(replay, self.baseline.moments_of(layers))
        ladders = ladders_of(replay.transformer, replay.anatomy, layers, left.moments)
        return replace(self, left=left, space=replace(self.space, ladders=ladders))

    def _calibrated(self, accepted: Candidates) -> "Round":
        """Return the round in which int8 is static, with the ranges of the model with what was accepted before."""
        baseline, replay, layers = self.baseline, self.baseline.replay, self.layers_with(accepted)
        with self._left_as(layers), observing(replay.transformer, layers) as observed:
            for batch in baseline.batches:
                baseline.step(batch)
        ranges = observed.together(baseline.meter.ranks.gather)
        return replace(self, space=replace(self.space, int8_ranges=tuple(ranges)))

    @contextmanager
    def _left_as(self, layers: Sequence[LayerPlan]) -> Iterator[None]:
        """Let the model run as ``layers`` leave it, but for int8."""
        transformer = self.baseline.replay.transformer
        with closed(transformer, layers), attending(transformer, layers, self.baseline.replay.before):
            yield

    def layers_with(self, candidates: Iterable[Candidate]) -> tuple[LayerPlan, ...]:
        """Return what is left of each layer with ``candidates`` applied."""
        return with_candidates(self.baseline.replay.before, candidates, self.space)

    def _sweep(
        self,
        phase: Phase,
        scores: dict[Candidates, Score],
        on_trial: OnTrial,
        recorded: Recorded,
        accepted: Candidates,
        best: Score,
    ) -> Outcome[Candidate, Score]:
        def measure(candidates: Candidates, best: Score, has_parts: bool) -> Score:
            known = recorded(candidates[-1])
            if known is not None:
                scores[candidates], self.baseline.replay.work.layer_tokens = known
                self.counts.evaluations += 1
            elif candidates not in scores:  # a later sweep may come back to what an earlier one has tried
                scores[candidates] = self._measure(phase, candidates, self._ends(phase, candidates, best, has_parts))
            return scores[candidates]

        return greedy_search(
            self._steps(phase, accepted),
            measure,
            partial(self._accepts, phase),
            partial(self._inspects, phase),
            best=best,
            accepted=accepted,
            is_left=self._is_left,
            on_trial=on_trial,
        )

    def _is_left(self, accepted: Candidates, candidate: Candidate) -> bool:
        layer = self.layers_with(accepted)[candidate.layer]
        return candidate.index in KINDS[candidate.kind].offers(layer, self.space.at(candidate.layer))

    def _steps(self, phase: Phase, accepted: Candidates) -> Iterable[Step[Candidate]]:
        layers = self.layers_with(accepted)
        steps = steps_of(phase.name, layers, self.space)
        return steps if phase.strategy == "reference" else self._best_first(phase, steps, layers)

    def _best_first(
        self, phase: Phase, steps: Iterable[Step[Candidate]], layers: tuple[LayerPlan, ...]
    ) -> Iterable[Step[Candidate]]:
        baseline, replay = self.baseline, self.baseline.replay
        with self._left_as(layers):
            changes = predicted_changes(
                baseline.step, baseline.batches, replay.transformer, replay.anatomy, replay.before, self.space
            )
        everyones = baseline.meter.ranks.gather(list(changes.values()))
        change = dict(zip(changes, map(sum, zip(*everyones, strict=True)), strict=True))
        return ordered(steps, change.__getitem__, parts=not phase.repairs)

    def _accepts(self, phase: Phase, score: Score, best: Score) -> bool:
        return (
            score.loss is not None
            and votes_suffice(score.num_not_worse, score.samples_seen, phase.rule.majority)
            and phase.rule.gains(score, best, self.baseline.score)
        )

    def _inspects(self, phase: Phase, score: Score, best: Score) -> bool:
        assert best.loss is not None
        return score.loss is not None and inspection_bar(best.loss, phase.inspection_factor).passes(score.loss)

    def _measure(self, phase: Phase, candidates: Candidates, ends: Ends) -> Score:
        self.counts.evaluations += 1
        with_them, without = (self.layers_with(some) for some in (candidates, candidates[:-1]))
        applied = self.left.running(with_them, like=without) if self.left else None
        score, parts = self.baseline.measure(candidates, phase.rule, ends, applied)
        if score.loss is not None:
            self.parts[candidates] = parts
        return score

    def _parts_of(self, phase: Phase, candidates: Candidates) -> Sequence[Part]:
        """Return what every batch reaches with what was accepted; a journal, which holds sums alone, may lack it."""
        if not candidates:
            return self.baseline.parts
        if candidates not in self.parts:
            self._measure(phase, candidates, never)
        return self.parts[candidates]

    def _ends(self, phase: Phase, candidates: Candidates, best: Score, has_parts: bool) -> Ends:
        """Return what tells whether a candidate need not be evaluated any further."""
        clause = phase.rule.loss_clause
        bar = clause.bar(best, self.baseline.score, phase.rule.tolerance) if clause else None
        if not self.stops_early or bar is None:
            return never
        assert best.loss is not None
        inspection = inspection_bar(best.loss, phase.inspection_factor) if has_parts else None
        bounds = Bounds(phase.rule, best.loss, bar, inspection, self.baseline.score.samples_seen)
        if self.settings.early_stop == "exact":
            return lambda parts: is_lost(parts, bounds)
        watch = Watch(bounds, self._parts_of(phase, candidates[:-1]), self.settings.confidence)
        # Both are asked of every batch: the watch has to see each.
        return lambda parts: any([watch.is_surely_lost(parts), is_lost(parts, bounds)])
