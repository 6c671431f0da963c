"""From a model and a search set to a plan."""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn
from torchmetrics import Metric
from transformers import PreTrainedModel
from typing_extensions import Unpack

from axformer_lightning.anatomy import Candidate, HardAttention, anatomy_of, find_transformer
from axformer_lightning.costs import encoder_parameters, layer_sizes
from axformer_lightning.int8 import has_embeddings
from axformer_lightning.plan import Decision, Plan, plan_of
from axformer_lightning.repair import Repair, check_can_repair
from axformer_lightning.replay.measuring import Score, turned
from axformer_lightning.replay.ranks import ALONE, Ranks
from axformer_lightning.scoring import checked_search_batches, losses_are_nonnegative, scoring
from axformer_lightning.search.baseline import measure_baseline
from axformer_lightning.search.greedy import Outcome, Trial
from axformer_lightning.search.journal import Journal, fingerprint
from axformer_lightning.search.options import PUBLISHED, SearchOptions, make_settings, spelled_out
from axformer_lightning.search.phases import space_of
from axformer_lightning.search.round import OnTrial, Round
from axformer_lightning.search.settings import Pruning, SearchCounts, SearchSettings, Strategy
from axformer_lightning.surgery import check_can_cut

logger = logging.getLogger(__name__)

JournalPath = str | os.PathLike[str] | Callable[[str], Path]


@spelled_out(SearchOptions, PUBLISHED)
def find_plan(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    hard_attention_k: int | None = HardAttention.k,
    renormalize: bool = HardAttention.renormalize,
    neuron_groups: int = Pruning.neuron_groups,
    inspection_factor: float = Pruning.inspection_factor,
    strategy: Strategy = Pruning.strategy,
    sweeps: int | None = Pruning.sweeps,
    max_length: int | None = None,
    on_trial: OnTrial = lambda trial: None,
    **options: Unpack[SearchOptions],
) -> Plan:
    """Search for what a fine-tuned model can do without. The model is unchanged afterwards.

    Source: arXiv 2010.03688, algorithm 1. Hard attention is tried first, from the first layer to the last; then
    pruning from the last layer to the first, feed-forward before attention, a block before its parts.

    Args:
        model: a fine-tuned Hugging Face model of a known family, or a module that holds one and whose forward
            returns logits, or that has an `axformer_step`.
        batches: the search set, which the model was not trained on: batches as the model takes them, with labels.
            Of dicts of tensors with `input_ids` padding is stripped, and samples of similar length are batched
            together. Other batches, and those for an `axformer_step`, are used as they are.
        hard_attention_k: keys that a hard query keeps; None tries no hard attention.
        renormalize: whether the kept attention weights are scaled to sum to one.
        neuron_groups: see :class:`~axformer_lightning.search.Pruning`.
        inspection_factor: see there.
        strategy: see there.
        sweeps: see there.
        max_length: length to which the reference procedure would pad; changes no decision.
        on_trial: is called with every candidate.
        options: see :class:`~axformer_lightning.search.SearchOptions`.

    Returns:
        The plan, with every decision in the order tried. Pass it to :func:`~axformer_lightning.apply_plan_` (an example
        is there).

    Raises:
        ValueError: if a setting is out of range, the model cannot be searched or cut, the search set is empty or has no
            labels, a loss is not finite (the candidate is named), the model returns another loss than it would be
            scored by (:func:`~axformer_lightning.scoring.check_agreement`), or the metric does not take predictions.
    """
    hard_attention = None if hard_attention_k is None else HardAttention(hard_attention_k, renormalize)
    pruning = Pruning(neuron_groups, inspection_factor, strategy, sweeps)
    settings = make_settings(hard_attention, pruning, PUBLISHED | options, max_length=max_length)
    transformer = find_transformer(model)
    check_can_cut(transformer, hard_attention, prunes=True)  # what cannot be cut need not be scored
    arranged = checked_search_batches(model, transformer, batches, settings.batch_tokens, settings.rule.metric)
    plan, counts = search_plan(model, transformer, arranged, settings, on_trial=on_trial)
    if not counts.accepted:
        logger.warning(
            "The plan removes nothing: none of %d candidates was accepted. A larger `tolerance=` or more samples would"
            " remove more, and so would the rule of the callbacks: `criterion='loss_and_metric', majority=0`.",
            counts.candidates,
        )
    return plan


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Args:
        plan: what is left, and every decision so far.
        counts: the work of the search.
        repair: of the model that is cut to the plan; None where nothing was to be repaired.
    """

    plan: Plan
    counts: SearchCounts
    repair: Repair | None


def search_plan(*args: Any, **options: Any) -> tuple[Plan, SearchCounts]:
    """Return the plan and the work of :func:`search`, of settings without repair."""
    found = search(*args, **options)
    assert found.repair is None, "a plan alone says nothing of the repair"
    return found.plan, found.counts


def search(
    module: nn.Module,
    transformer: PreTrainedModel,
    batches: Sequence[Any],
    settings: SearchSettings,
    *,
    ranks: Ranks = ALONE,
    journal: JournalPath | None = None,
    on_trial: OnTrial = lambda trial: None,
) -> Found:
    """Run one round of search on batches as they are.

    Args:
        module: what is scored: ``transformer`` itself, or the LightningModule around it.
        transformer: what is searched; cut already or not.
        batches: the search set, in batches that ``module`` takes; of several processes the part of this one.
        settings: what is searched for and how it is judged.
        ranks: the processes that share the search; all have to call this, and all get the same plan.
        journal: file that takes down every trial as it is decided. Where it holds trials of this very search, these
            are taken over instead of evaluated; the plan is the same, to the bit. A function is given the
            fingerprint of the search, and returns the file.
        on_trial: is told of every candidate, also of those taken over.

    Returns:
        The plan so far with this round's decisions appended, the work done by all processes, and the repair that the
        settings ask for.

    Raises:
        ValueError: as :func:`find_plan`, or if the journal cannot be read.
        RuntimeError: if the processes come to different plans.
    """
    began = time.perf_counter()
    anatomy = anatomy_of(transformer)
    if settings.pruning is not None and settings.pruning.repair:
        check_can_repair(transformer)
    before = plan_of(transformer)
    space = space_of(anatomy, settings)
    space = replace(space, int8_embeddings=space.int8_embeddings and has_embeddings(transformer))
    groups = space.groups
    in_groups = settings.pruning is not None and not settings.pruning.repair  # with it blocks go by width
    if ranks.rank == 0 and in_groups and len({stop - start for start, stop in groups}) > 1:
        logger.warning(
            "%d neuron groups do not divide the intermediate size %d: the first %d groups take one neuron more.",
            len(groups),
            anatomy.intermediate_size,
            anatomy.intermediate_size % len(groups),
        )
    stops_early = losses_are_nonnegative(module) and not settings.full_scores
    with scoring(module, transformer):
        baseline = measure_baseline(module, transformer, anatomy, batches, settings, space, before.layers, ranks)
        first = Round(baseline, space, settings, stops_early, SearchCounts(evaluations=1))
        outcome, last = first.run(on_trial) if journal is None else _run(first, on_trial, journal, before, began)
        left = last.layers_with(outcome.accepted)
        repair = last.left.repair_of(left) if last.left else None
    if ranks.rank == 0 and settings.hard_attention and 0 < baseline.longest <= settings.hard_attention.k:
        logger.warning(
            "Hard attention with k=%d changes nothing: the longest sample of the search set has %d tokens.",
            settings.hard_attention.k,
            baseline.longest,
        )
    if ranks.rank == 0 and settings.rule.goes_by_metric and _stands_still(baseline.score, outcome):
        logger.warning(
            "%s was %.6g with every candidate, so it has guarded nothing: predictions and targets are not of the kind"
            " that it takes. Pass another `metric=`, or a module whose `axformer_step` returns some that are.",
            type(settings.rule.metric).__name__,
            turned(baseline.score.metric, settings.rule.metric),
        )
    round_ = 1 + max((decision.round for decision in before.decisions), default=0)
    sizes, decisions = layer_sizes(transformer), []
    accepted: list[Candidate] = []
    for trial in outcome.trials:
        layers = last.layers_with([*accepted, trial.candidate])
        size = encoder_parameters(anatomy, sizes, layers)
        decisions.append(_decision(trial, settings.rule.metric, baseline.score, round_, size))
        accepted += [trial.candidate] * trial.accepted
    repaired = before.repaired or (repair is not None and bool(repair.values))
    plan = replace(before, layers=left, decisions=(*before.decisions, *decisions), repaired=repaired)
    if not ranks.agree([json.dumps(plan.to_dict()).encode()]):
        raise RuntimeError(
            "Expected all processes to come to one plan, got several. Give every process the same model and the same"
            " settings."
        )
    counts = replace(
        first.counts,
        candidates=len(decisions),
        accepted=len(outcome.accepted),
        layer_tokens=sum(tokens for (tokens,) in ranks.gather([baseline.replay.work.layer_tokens])),
        exhaustive_layer_tokens=float(len(decisions) * baseline.layer_rows * (settings.max_length or baseline.longest)),
        kept_bytes=baseline.replay.records.peak,
        seconds=first.counts.seconds + time.perf_counter() - began,
    )
    return Found(plan, counts, repair)


def _run(
    search: Round, on_trial: OnTrial, journal: JournalPath, before: Plan, began: float
) -> tuple[Outcome[Candidate, Score], Round]:
    ranks, work = search.baseline.meter.ranks, search.baseline.replay.work
    told = fingerprint(search, before)
    path = journal(told) if callable(journal) else journal
    with closing(Journal(path, told, ranks, began)) as kept:

        def note(trial: Trial[Candidate, Score]) -> None:
            kept.write(trial, work.layer_tokens)
            on_trial(trial)

        search.counts.seconds = kept.seconds_before
        return search.run(note, kept.recorded)


def _stands_still(base: Score, outcome: Outcome[Candidate, Score]) -> bool:
    """Tell whether a metric is 0, and was so with every candidate."""
    return base.metric == 0 and all(trial.score.metric in (None, 0) for trial in outcome.trials)


def _decision(trial: Trial[Candidate, Score], metric: Metric | None, base: Score, round_: int, size: int) -> Decision:
    candidate, score = trial.candidate, trial.score
    assert trial.best_before.loss is not None
    return Decision(
        round=round_,
        kind=candidate.kind,
        layer=candidate.layer,
        index=candidate.index,
        loss=score.loss,
        share_not_worse=None if score.loss is None else score.num_not_worse / base.samples_seen,
        best_before=trial.best_before.loss,
        accepted=trial.accepted,
        samples_seen=score.samples_seen,
        metric=_as_given(score.metric, metric),
        metric_before=_as_given(trial.best_before.metric, metric),
        encoder_parameters=size,
    )


def _as_given(value: float | None, metric: Metric | None) -> float | None:
    """Return the value that a metric gave, None for one that is no finite number, which JSON does not have."""
    return turned(value, metric) if value is not None and math.isfinite(value) else None
