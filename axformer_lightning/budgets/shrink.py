"""From a fine-tuned model and a target to a smaller one, without training.

In slices, each at most :data:`STEP` times smaller than the one before: measure what every width of every block does,
let programs propose widths for all blocks, measure the proposals and swaps as a whole, cut, repair, and begin the next
slice on the model as it then is.
"""

import copy
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import anatomy_of, find_transformer, layers_left
from axformer_lightning.budgets.choosing import Chooser, Tried
from axformer_lightning.budgets.probe import Damage, Probe
from axformer_lightning.budgets.tables import measure_table
from axformer_lightning.budgets.widths import Width, widths_of
from axformer_lightning.costs import LayerSize, encoder_parameters, layer_sizes
from axformer_lightning.plan import plan_of
from axformer_lightning.repair import BlockName, apply_repair_, block_order, measure_moments
from axformer_lightning.replay import scoring
from axformer_lightning.scoring import BATCH_TOKENS, search_batches
from axformer_lightning.surgery import cut_

logger = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)
STEP = 1.6


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        table_samples: samples by which single widths are measured.
        tries: swaps that are measured in each slice.
    """

    table_samples: int = 128
    tries: int = 16


DEFAULT_EFFORT = Effort()


def shrink(
    model: M,
    batches: Iterable[Any],
    *,
    encoder_size_ratio: float,
    effort: Effort = DEFAULT_EFFORT,
    batch_tokens: int = BATCH_TOKENS,
) -> M:
    """Return a copy of a fine-tuned model whose encoder is that many times smaller; nothing is trained.

    The widths of all blocks are chosen by the loss that the cut and repaired model has on ``batches``. The plan is the
    copy's `axformer_plan`; the given model is unchanged.

    Args:
        model: a fine-tuned Hugging Face model of a known family, or a module that holds one, as of
            :func:`~axformer_lightning.find_plan`.
        batches: the search set, as of `find_plan`; some 500 samples that the model was not trained on.
        encoder_size_ratio: parameters of the encoder's layers now, divided by those of the copy.
        effort: how much is measured.
        batch_tokens: most tokens evaluated at once.

    Raises:
        ValueError: if the ratio is not above 1 or cannot be reached, or as `find_plan`.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from axformer_lightning.costs import count_encoder_parameters
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 16}
        >>> model = BertForSequenceClassification(BertConfig(vocab_size=64, **sizes)).eval()
        >>> batch = {"input_ids": torch.arange(1, 61).view(6, 10), "labels": torch.tensor([0, 1] * 3)}
        >>> small = shrink(model, [batch], encoder_size_ratio=1.5)
        >>> count_encoder_parameters(model) / count_encoder_parameters(small) >= 1.5
        True
    """
    small = copy.deepcopy(model)
    transformer = find_transformer(small)
    arranged = search_batches(small, batches, batch_tokens, transformer.config)
    for _ in shrink_(small, transformer, shuffled(arranged), encoder_size_ratio, effort):
        pass
    return small


def shuffled(batches: Sequence[Any]) -> list[Any]:
    """Return batches in a random order, always the same: by length the first would be no sample of the whole."""
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(0)).tolist()
    return [batches[i] for i in order]


def shrink_(
    module: nn.Module,
    transformer: PreTrainedModel,
    batches: Sequence[Any],
    encoder_size_ratio: float,
    effort: Effort = DEFAULT_EFFORT,
    *,
    repairs: bool = True,
) -> Iterator[Tried]:
    """Make a model smaller in place, slice by slice; yields what each slice has chosen, once the model is cut to it.

    Args:
        module: what is scored: ``transformer`` itself, or the module around it.
        transformer: what is cut, cut already or not.
        batches: the search set, shuffled.
        encoder_size_ratio: as of :func:`shrink`.
        effort: how much is measured.
        repairs: whether what is left of a block is repaired; without, models are measured as a cut leaves them.

    Raises:
        ValueError: as :func:`shrink`. Slices that were yielded stay cut.
    """
    anatomy, sizes = anatomy_of(transformer), layer_sizes(transformer)
    now = encoder_parameters(anatomy, sizes, layers_left(transformer))
    fixed = sum(size.others for size in sizes)
    target = _target(now, fixed, encoder_size_ratio)
    slices = math.ceil(math.log(encoder_size_ratio) / math.log(STEP) - 1e-9)
    dense = None
    for number in range(1, slices + 1):
        budget = now * (target / now) ** (number / slices) - fixed
        with scoring(module, transformer):
            moments = measure_moments(module, transformer, batches)
            probe = Probe.of(module, transformer, batches, moments, dense=dense, repairs=repairs)
            tried = _slice(probe, sizes, budget, effort)
            repair = probe.repair_of(tried.layers)
        dense = probe.dense
        cut_(transformer, replace(plan_of(transformer), layers=tried.layers))
        apply_repair_(transformer, repair)
        logger.info(
            "Slice %d of %d: encoder %.2f times smaller, loss %+.4f.",
            number, slices, now / encoder_parameters(anatomy, sizes, tried.layers), tried.damage.loss,
        )  # fmt: skip
        yield tried


def _target(now: int, fixed: int, ratio: float) -> float:
    if not 1 < ratio < math.inf:
        raise ValueError(f"Expected `encoder_size_ratio` to be a number above 1, got {ratio}.")
    if now / ratio < fixed:
        raise ValueError(
            f"Expected `encoder_size_ratio` of at most {now / fixed:.4g}, where only norms are left, got {ratio:g}."
        )
    return now / ratio


def _slice(probe: Probe, sizes: Sequence[LayerSize], budget: float, effort: Effort) -> Tried:
    def cost_of(name: BlockName, width: Width) -> float:
        layer, kind = name
        return sizes[layer].blocks[kind].parameters(width)

    transformer = probe.replay.transformer
    left = widths_of(probe.replay.anatomy, probe.replay.before)
    orders = {name: block_order(transformer, probe.moments, *name) for name, units in left.items() if units is not None}
    few = _first_batches(probe, effort.table_samples)
    table = measure_table(probe, orders, cost_of, objective, most=few)
    return Chooser(probe, table, orders, budget, objective, few).choose(effort.tries)


def objective(damage: Damage) -> float:
    """Return what is to be as low as possible: the mean loss."""
    return damage.loss


def _first_batches(probe: Probe, samples: int) -> int:
    seen = 0
    for number, scored in enumerate(probe.results, 1):
        seen += len(scored.loss_N)
        if seen >= samples:
            return number
    return len(probe.results)
