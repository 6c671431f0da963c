"""The model before a round, measured once: what every candidate is compared with."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import (
    WORD_EMBEDDINGS,
    Anatomy,
    Candidate,
    LayerPlan,
    SearchSpace,
    anatomy_of,
    layers_left,
)
from axformer_lightning.basics import copied
from axformer_lightning.criteria import Rule
from axformer_lightning.hard_attention import attending
from axformer_lightning.repair import Moments, measure_moments
from axformer_lightning.replay import (
    ALONE,
    AppliedModel,
    Base,
    Ends,
    FirstPass,
    Meter,
    Part,
    Ranks,
    Reads,
    Records,
    Replay,
    Score,
    Work,
    first_pass,
    free_memory,
    never,
    running,
    size_of,
)
from axformer_lightning.replay.records import SHARE_OF_FREE_MEMORY
from axformer_lightning.scoring import Scored, scoring, shuffled, step_of, to_device
from axformer_lightning.search.phases import space_of
from axformer_lightning.search.settings import SearchSettings


@dataclass(frozen=True)
class Baseline:
    """A model before a round, measured.

    Args:
        score: of the model as it is.
        parts: what every batch of every process reached.
        meter: scores candidates against it.
        replay: runs candidates.
        batches: of this process, in the order in which they are scored.
        step: scores one batch.
        layer_rows: sequences times layers that each goes through, over all processes.
        longest: tokens of the longest sequence.
        moments_of: measures the inputs of out-projections with the hard attention of some layers.
    """

    score: Score
    parts: Sequence[Part]
    meter: Meter
    replay: Replay
    batches: Sequence[Any]
    step: Callable[[Any], Scored]
    layer_rows: int
    longest: int
    moments_of: Callable[[Sequence[LayerPlan]], Moments]

    def measure(
        self,
        candidates: tuple[Candidate, ...],
        rule: Rule,
        ends: Ends,
        applied: AbstractContextManager[AppliedModel] | None = None,
    ) -> tuple[Score, list[Part]]:
        """Score the model with candidates applied; nothing depends on what was measured before.

        Args:
            candidates: those accepted, in order, and last the one that is tried.
            rule: whose tolerance the votes have.
            ends: tells from what was measured so far whether it is enough.
            applied: lets the model run with them; by default by closing what they remove.

        Raises:
            ValueError: if a loss is not finite; the candidate is named.
        """
        what = str(candidates[-1]) if candidates else "the model before the search"
        with applied or running(self.replay, candidates) as model:
            return self.meter.measure(
                lambda i: model.step(i, partial(self.step, self.batches[i])), ends, what, rule.tolerance
            )


def measure_baseline(
    module: nn.Module,
    transformer: PreTrainedModel,
    anatomy: Anatomy,
    batches: Sequence[Any],
    settings: SearchSettings,
    space: SearchSpace,
    layers: tuple[LayerPlan, ...],
    ranks: Ranks,
) -> Baseline:
    """Run the model on the whole search set, find out what later passes may leave out, and score it.

    Args:
        module: what is scored: ``transformer`` itself, or the module around it.
        transformer: what is searched.
        anatomy: its parts.
        batches: the search set of this process.
        settings: of the search.
        space: what the indices of candidates stand for.
        layers: what is left of each layer.
        ranks: the processes that share the search.

    Raises:
        ValueError: if there is no sample, or a loss is not finite.
    """
    device = transformer.device
    score = step_of(module, getattr(transformer.config, "problem_type", None))
    if settings.early_stop == "statistical":
        batches = shuffled(batches)
    share = free_memory(device) // SHARE_OF_FREE_MEMORY // ranks.size
    if size_of(batches) <= share:  # else each is moved as often as it is scored
        batches = to_device(list(batches), device)
    budget = share if settings.cache_memory is None else settings.cache_memory
    records, shares = Records(budget, anatomy.num_layers), settings.shortcuts.share_blocks
    whole = Replay(transformer, anatomy, layers, space, records, Work(), shares)

    def step(batch: Any) -> Scored:
        return score(to_device(batch, device))

    def moments_of(wanted: Sequence[LayerPlan]) -> Moments:
        with attending(transformer, wanted, layers):
            return measure_moments(module, transformer, batches, ranks=ranks)

    first_token = settings.shortcuts.first_token and not _has_dynamic_int8(settings, layers)
    most = Reads.FIRST_TOKEN if first_token else Reads.LAST_LAYER
    found = first_pass(whole, step, batches, ranks, most)
    meter = Meter(
        len(batches),
        int(max(count for (count,) in ranks.gather([len(batches)]))),
        copied(settings.rule.metric) if settings.rule.metric is not None else None,  # the user's own keeps its state
        ranks,
        device,
    )
    results = _results(found, step, batches)
    reached, parts = meter.measure(results.__getitem__, never, "the model before the search")
    return Baseline(
        score=reached,
        parts=parts,
        meter=replace(meter, base=Base.of(results, settings.rule.vote)),
        replay=found.replay,
        batches=batches,
        step=step,
        layer_rows=found.layer_rows,
        longest=found.longest,
        moments_of=moments_of,
    )


def _has_dynamic_int8(settings: SearchSettings, layers: Sequence[LayerPlan]) -> bool:
    """Tell whether some activations are, or may be, rounded by the range of all tokens."""
    if settings.int8 is not None and not settings.int8.static:
        return True
    return any(layer.ranges_of(block) is None for layer in layers for block in layer.int8 if block != WORD_EMBEDDINGS)


def score_of(
    module: nn.Module, transformer: PreTrainedModel, batches: Sequence[Any], settings: SearchSettings
) -> Score:
    """Return what a model reaches on the search set as it is.

    Args:
        module: what is scored: ``transformer`` itself, or the module around it.
        transformer: a model of a known family.
        batches: the search set.
        settings: of the search, by whose metric it is scored, too.

    Raises:
        ValueError: as :func:`measure_baseline`.
    """
    anatomy = anatomy_of(transformer)
    with scoring(module, transformer):
        space, layers = space_of(anatomy, settings), layers_left(transformer)
        return measure_baseline(module, transformer, anatomy, batches, settings, space, layers, ALONE).score


def _results(found: FirstPass, step: Callable[[Any], Scored], batches: Sequence[Any]) -> Sequence[Scored]:
    """Return what every batch reaches along the way that candidates will be run.

    What runs the first token alone differs by rounding from what runs all, so it is run again that way.
    """
    if found.replay.reading.reads != Reads.FIRST_TOKEN:
        return found.results
    with running(found.replay, ()) as model:
        return [model.step(i, partial(step, batch)) for i, batch in enumerate(batches)]
