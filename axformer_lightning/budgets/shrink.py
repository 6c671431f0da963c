"""From a model and a target to a smaller model, without training."""

import copy
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import find_transformer, layers_left
from axformer_lightning.budgets.choosing import Chooser, Objective, Tried
from axformer_lightning.budgets.probe import Probe
from axformer_lightning.budgets.tables import measure_table
from axformer_lightning.budgets.widths import Width, widths_of
from axformer_lightning.costs import layer_sizes
from axformer_lightning.plan import plan_of
from axformer_lightning.repair import BlockName, apply_repair_, block_order, measure_moments
from axformer_lightning.replay import scoring
from axformer_lightning.scoring import BATCH_TOKENS, search_batches
from axformer_lightning.surgery import cut_

logger = logging.getLogger(__name__)
STEP = 1.5  # most by which one slice makes the encoder smaller


def shrink(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    encoder_size_ratio: float,
    tries: int = 30,
    batch_tokens: int = BATCH_TOKENS,
    objective: Objective = lambda damage: damage.loss,
) -> nn.Module:
    """Return a copy of a fine-tuned model whose encoder is that many times smaller; the given one is unchanged."""
    small = copy.deepcopy(model)
    transformer = find_transformer(small)
    arranged = search_batches(small, batches, batch_tokens, transformer.config)
    order = torch.randperm(len(arranged), generator=torch.Generator().manual_seed(0)).tolist()
    for _ in shrink_(small, transformer, [arranged[i] for i in order], encoder_size_ratio, tries, objective):
        pass
    return small


def shrink_(
    module: nn.Module,
    transformer: PreTrainedModel,
    batches: Sequence[Any],
    ratio: float,
    tries: int,
    objective: Objective,
    table_batches: int | None = None,
) -> Iterator[Tried]:
    """Cut a model in slices, each with tables measured anew."""
    sizes = layer_sizes(transformer)

    def cost_of(name: BlockName, width: Width) -> float:
        layer, kind = name
        return sizes[layer].blocks[kind].parameters(width)

    others = sum(size.others for size in sizes)
    whole = sum(cost_of(name, width) for name, width in widths_of_dense(transformer).items())
    now = others + sum(cost_of(name, width) for name, width in widths_now(transformer).items())
    target = (whole + others) / ratio - others
    slices = max(1, math.ceil(math.log(now / (target + others)) / math.log(STEP) - 1e-9))
    dense = None
    for slice_ in range(1, slices + 1):
        budget = now * ((target + others) / now) ** (slice_ / slices) - others
        with scoring(module, transformer):
            moments = measure_moments(module, transformer, batches)
            probe = Probe.of(module, transformer, batches, moments, dense=dense)
            dense = probe.dense
            names = [name for name, width in widths_now(transformer).items() if width is not None]
            orders = {name: block_order(transformer, moments, *name) for name in names}
            table = measure_table(probe, orders, cost_of, most=table_batches)
            tried = Chooser(probe, table, orders, budget, objective).choose(tries)
            repair = probe.repair_of(tried.layers)
        logger.info("Slice %d of %d: %s", slice_, slices, tried.damage)
        cut_(transformer, replace(plan_of(transformer), layers=tried.layers))
        apply_repair_(transformer, repair)
        yield tried


def widths_now(transformer: PreTrainedModel) -> dict[BlockName, Width]:
    plan = plan_of(transformer)
    from axformer_lightning.anatomy import anatomy_of

    return widths_of(anatomy_of(transformer), layers_left(transformer))


def widths_of_dense(transformer: PreTrainedModel) -> dict[BlockName, Width]:
    from axformer_lightning.anatomy import anatomy_of

    anatomy = anatomy_of(transformer)
    return widths_of(anatomy, anatomy.dense_layers())
