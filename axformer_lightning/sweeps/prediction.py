"""What a cut model takes beside what the times of its blocks predict."""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import AutoModel, PreTrainedModel

from axformer_lightning.anatomy import Anatomy, LayerPlan, anatomy_of
from axformer_lightning.costs import LatencyTable
from axformer_lightning.costs.measured import uniform_batch
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_
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
    model: PreTrainedModel = AutoModel.from_pretrained(source, dtype=dtype)
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
