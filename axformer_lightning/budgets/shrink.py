"""From a fine-tuned model and a target to a smaller one, without training.

In slices, each at most :data:`STEP` times smaller than the one before: measure what every width of every block does,
let programs propose widths for all blocks, measure the proposals and swaps as a whole, cut, repair, and begin the next
slice on the model as it then is.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import nn
from transformers import PreTrainedModel
from typing_extensions import Unpack

from axformer_lightning.anatomy import anatomy_of, find_transformer, layers_left
from axformer_lightning.basics import bf16_pays, copied
from axformer_lightning.budgets.answers import Answers
from axformer_lightning.budgets.budget import DEFAULT_EFFORT, NO_TARGETS, Budget, Effort, TargetOptions
from axformer_lightning.budgets.choosing import Chooser
from axformer_lightning.budgets.damage import Damage
from axformer_lightning.budgets.floor import split_floor
from axformer_lightning.budgets.probe import Probe
from axformer_lightning.budgets.tables import Table, measure_table
from axformer_lightning.budgets.targets import Target, targets_of
from axformer_lightning.budgets.widths import Widths, widths_of
from axformer_lightning.gates import closed
from axformer_lightning.plan import plan_of
from axformer_lightning.repair import apply_repair_, block_order, check_can_repair, measure_moments, repaired_weights
from axformer_lightning.replay import ALONE, Ranks, scoring
from axformer_lightning.scoring import BATCH_TOKENS, checked_search_batches, shuffled, with_own_labels
from axformer_lightning.search import spelled_out
from axformer_lightning.surgery import Edit, check_can_cut, cut_

logger = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)
STEP = 1.6
SMALLEST_STEP = 1.1


@dataclass(frozen=True)
class Slice:
    """What one slice has left of a model.

    Args:
        target: the one that it worked towards, of several the one that was furthest away.
        widths: of all blocks now.
        loss: on the search set now.
        damage: of this slice.
        table: what each width of each block did to the model before this slice, the others being as they were.
        edits: what became of each parameter that it touched.
        repaired: names of the parameters that were given other values.
    """

    target: Target
    widths: Widths
    loss: float
    damage: Damage
    table: Table
    edits: tuple[Edit, ...]
    repaired: frozenset[str]


@spelled_out(TargetOptions, NO_TARGETS)
def shrink(
    model: M,
    batches: Iterable[Any],
    *,
    effort: Effort = DEFAULT_EFFORT,
    batch_tokens: int = BATCH_TOKENS,
    **options: Unpack[TargetOptions],
) -> M:
    """Return a smaller copy of a fine-tuned model; nothing is trained.

    The widths of all blocks are chosen by what the cut and repaired model makes of ``batches``: by how far answers that
    are choices (classes, spans, labels) go from those of ``model``, else by the loss. The plan is the copy's
    `axformer_plan`; the given model is unchanged. Ratios are to the model as it is given.

    Args:
        model: a fine-tuned Hugging Face model of a known family, or a module that holds one, as of
            :func:`~axformer_lightning.find_plan`.
        batches: the search set, as of `find_plan`; some 500 samples that the model was not trained on. They need no
            labels, unless there is a `metric_floor` or a module scores itself: see
            :func:`~axformer_lightning.scoring.with_own_labels`.
        effort: how much is measured.
        batch_tokens: most tokens evaluated at once.
        options: see :class:`~axformer_lightning.budgets.TargetOptions`.

    Raises:
        ValueError: if no target is given or one cannot be reached, or as `find_plan`.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from axformer_lightning.costs import count_encoder_parameters
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 16}
        >>> model = BertForSequenceClassification(BertConfig(vocab_size=64, **sizes)).eval()
        >>> batch = {"input_ids": torch.arange(1, 61).view(6, 10), "labels": torch.tensor([0, 1] * 3)}
        >>> small = shrink(model, [batch], encoder_size_ratio=1.5)
        >>> count_encoder_parameters(model) / count_encoder_parameters(small) >= 1.5
        True
    """
    budget = Budget(options, effort)
    small = copied(model)
    transformer = find_transformer(small)
    check_can_cut(transformer, None, prunes=True)  # what cannot be cut need not be scored
    if not budget.has_floor:
        batches = with_own_labels(small, transformer, batches)
    arranged = checked_search_batches(small, transformer, batches, batch_tokens)
    for _ in shrink_(small, transformer, arranged, budget):
        pass
    return small


def shrink_(
    module: nn.Module,
    transformer: PreTrainedModel,
    batches: Sequence[Any],
    budget: Budget,
    *,
    ranks: Ranks = ALONE,
    repairs: bool = True,
) -> Iterator[Slice]:
    """Make a model smaller in place, slice by slice; yields what each slice has left, once the model is cut to it.

    Args:
        module: what is scored: ``transformer`` itself, or the module around it.
        transformer: what is cut, cut already or not.
        batches: the search set, as :func:`~axformer_lightning.scoring.search_batches` arranges it.
        budget: what is to be reached.
        ranks: the processes that share the search set; ``batches`` are those of this one.
        repairs: whether what is left of a block is repaired; without, models are measured as a cut leaves them.

    Raises:
        ValueError: if a target cannot be reached, or the model cannot be cut or repaired, before anything is measured;
            or the model cannot be measured. Slices that were yielded stay cut.
    """
    check_can_cut(transformer, None, prunes=True)
    if repairs:
        check_can_repair(transformer)
    targets, step = targets_of(transformer, budget, ranks), STEP
    bf16 = all(bool(pays) for (pays,) in ranks.gather([budget.effort.bf16 and bf16_pays(transformer.device)]))
    answers: Answers = None
    choosing, floor = split_floor(module, transformer, shuffled(batches), budget, ranks)
    while (target := _furthest(targets, now := _widths(transformer))) is not None:
        with scoring(module, transformer):
            moments = measure_moments(module, transformer, choosing, ranks=ranks)
            options: dict[str, Any] = {"ranks": ranks, "repairs": repairs, "bf16": bf16, "answers": answers}
            probe = Probe.of(module, transformer, choosing, moments, **options)
            answers = probe.answers
            chooser = _chooser(probe, target, budget.effort)
            while True:
                tried = replace(chooser, budget=_budget(target, now, step)).choose(budget.effort.tries)
                repair = probe.repair_of(tried.layers)
                if not tried.damage.is_finite:
                    raise ValueError(
                        "Expected losses that are numbers of some model that is small enough, got none: every one that"
                        " was tried gives NaN or infinity. Ask for less, or check the loss."
                    )
                if floor is None:
                    break
                with repaired_weights(transformer, repair), closed(transformer, tried.layers):
                    lost = floor.lost()
                if lost <= floor.most_lost:
                    break
                if math.sqrt(step) < SMALLEST_STEP:
                    logger.warning(
                        "`metric_floor` ends it: with a model %.2f times smaller up to %.4f would be lost (95 %%"
                        " confidence).", step, lost,
                    )  # fmt: skip
                    return
                step = math.sqrt(step)
        if not ranks.agree([repr(tried.layers).encode()]):
            raise RuntimeError(
                "Expected all processes to choose the same widths, got several. Give every process the same model and"
                " the same settings."
            )
        edits = cut_(transformer, replace(plan_of(transformer), layers=tried.layers, repaired=probe.left.repairs))
        apply_repair_(transformer, repair)
        widths = _widths(transformer)
        logger.info(
            "%s: %.4g of %.4g %s are left, loss %+.4f.",
            target.name, target.costs.total(widths), target.costs.total(now), target.costs.unit, tried.damage.loss,
        )  # fmt: skip
        loss, touched = probe.loss() + tried.damage.loss, frozenset(repair.values)
        yield Slice(target, widths, loss, tried.damage, chooser.table, edits, touched)


def _widths(transformer: PreTrainedModel) -> Widths:
    return widths_of(anatomy_of(transformer), layers_left(transformer))


def _furthest(targets: Sequence[Target], now: Widths) -> Target | None:
    """Return the target that is furthest from being reached; the others are nearer once it is."""
    open_ = [target for target in targets if not target.is_reached(now)]
    return max(open_, key=lambda target: target.times_too_much(now), default=None)


def _budget(target: Target, now: Widths, step: float) -> float:
    """Return what all blocks may cost after the next slice; all slices that are left are equally large."""
    times = target.times_too_much(now)
    if math.isfinite(times):
        step = times ** (1 / max(1, math.ceil(math.log(times) / math.log(step) - 1e-9)))
    return (target.costs.total(now) - target.costs.rest) / step


def _chooser(probe: Probe, target: Target, effort: Effort) -> Chooser:
    transformer = probe.replay.transformer
    left = widths_of(probe.replay.anatomy, probe.replay.before)
    orders = {name: block_order(transformer, probe.moments, *name) for name, units in left.items() if units is not None}
    few = _first_batches(probe, effort.table_samples)
    table = measure_table(probe, orders, target.costs.of, objective, most=few)
    return Chooser(probe, table, orders, 0.0, objective, few)


def objective(damage: Damage) -> float:
    """Return what is to be as low as possible; nothing is worse than losses that are no numbers."""
    return damage.divergence if damage.is_finite else math.inf


def _first_batches(probe: Probe, samples: int) -> int:
    seen = 0
    for number, scored in enumerate(probe.results, 1):
        seen += len(scored.loss_N)
        if seen >= samples:
            return number
    return len(probe.results)
