"""What a cut model takes beside what the times of its blocks predict."""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel

from axformer_lightning.anatomy import Anatomy, LayerPlan, anatomy_of
from axformer_lightning.costs import Conditions, LatencyTable
from axformer_lightning.costs.measured import uniform_batch
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_
from axformer_lightning.sweeps.engines import ENGINES, put_into, seconds_of_run
from axformer_lightning.sweeps.latency_line import fit_latency_line
from axformer_lightning.tasks.models import source_of
from axformer_lightning.timing import medians_ms

Layers = tuple[LayerPlan, ...]


@dataclass(frozen=True)
class Predicted:
    """The time of one plan.

    Args:
        predicted_ms: the sum of its blocks' times.
        measured_ms: of the model that is cut by it.
    """

    predicted_ms: float
    measured_ms: float


def load_encoder(source: str, dtype: str) -> PreTrainedModel:
    """Return the encoder of a model of which nothing was cut, without its head, from a directory or the hub."""
    model: PreTrainedModel = AutoModel.from_pretrained(source_of(source), dtype=dtype)
    return model


def compare_predictions(
    model: PreTrainedModel, table: LatencyTable, plans: Sequence[Layers], seconds: float
) -> list[Predicted]:
    """Cut copies of ``model`` by each plan, time them in turns, and return that beside what ``table`` predicts.

    Args:
        model: a model of which nothing was cut.
        table: of that model, measured here.
        plans: what is left of each layer, each plan once.
        seconds: after so many no further round of turns begins.
    """
    copies = {layers: _cut_copy(model, layers) for layers in plans}
    batch = uniform_batch(model, table.conditions.batch_size, table.conditions.tokens)
    with torch.inference_mode():
        measured = medians_ms(copies, batch, seconds=seconds)
    return [Predicted(table.predict_ms(layers), measured[layers]) for layers in plans]


def compare_line(
    model: PreTrainedModel,
    engine: str,
    fitted: Sequence[Layers],
    plans: Sequence[Layers],
    directory: Path,
    *,
    batch_size: int,
    tokens: int,
    seconds: float,
) -> tuple[LatencyTable, list[Predicted]]:
    """Fit the latency line of an engine to some plans, and return it with what it predicts of others.

    All models take turns, so that a machine that gets slower meanwhile does so for all of them.

    Args:
        model: a model of which nothing was cut, in float32.
        engine: a key of :data:`~axformer_lightning.sweeps.engines.ENGINES`; in int8, all blocks are.
        fitted: what is left of each layer in the models that the line is fitted to.
        plans: the same of those that it predicts; dense may be among them.
        directory: where files are written.
        batch_size: samples of a batch.
        tokens: of a sample.
        seconds: after so many no further round of turns begins.
    """
    row, threads = ENGINES[engine], torch.get_num_threads()
    runs: Any = {}
    for layers in dict.fromkeys([*fitted, *plans]):
        where = directory / str(len(runs))
        runs[layers], _ = put_into(row, _cut_copy(model, layers), where, threads=threads, int8=True)
    batch = uniform_batch(model, batch_size, tokens)
    measured = medians_ms(runs, batch, seconds=seconds, timer=seconds_of_run)
    conditions = replace(Conditions.of(model, batch_size, tokens), dtype=str(row.dtype))
    if row.format is not None:
        conditions = replace(conditions, engine=engine)
    table = fit_latency_line(conditions, {layers: measured[layers] for layers in fitted})
    return table, [Predicted(table.predict_ms(layers), measured[layers]) for layers in plans]


def random_layers(anatomy: Anatomy, draw: random.Random) -> Layers:
    """Return a plan that leaves any number of heads, and of twelfths of the neurons, of each layer."""
    return tuple(_random_layer(anatomy.num_heads, anatomy.intermediate_size, draw) for _ in range(anatomy.num_layers))


def _random_layer(heads: int, neurons: int, draw: random.Random) -> LayerPlan:
    removed = tuple(sorted(draw.sample(range(heads), draw.randint(0, heads))))
    left = neurons * draw.randint(0, 12) // 12
    layer = LayerPlan(heads_removed=removed, neurons_removed=((left, neurons),) if left < neurons else ())
    layer = layer.without_attention() if len(removed) == heads else layer
    return layer if left else layer.without_feed_forward()


def _cut_copy(model: PreTrainedModel, layers: Layers) -> PreTrainedModel:
    smaller = apply_plan_(copy.deepcopy(model), replace(Plan.dense(anatomy_of(model)), layers=layers))
    smaller.eval()
    return smaller
