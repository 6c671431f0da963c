"""Ways to make a model smaller, to be compared at equal size: ours, ours with a part left out, and those of others.

Each cuts a model in place, to one ratio after the other, and yields a ratio once the model is cut to it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from axformer_lightning.anatomy import anatomy_of, layers_left
from axformer_lightning.budgets import Budget, Effort, layers_of, least_damage, shrink_, widths_of
from axformer_lightning.budgets.shrink import STEP
from axformer_lightning.budgets.tables import lost_share
from axformer_lightning.costs import LayerSize, count_encoder_parameters, count_parameters, layer_sizes
from axformer_lightning.gates import closed
from axformer_lightning.plan import plan_of
from axformer_lightning.repair import Layers, Repair, apply_repair_, block_order, find_repair, ladder, measure_moments
from axformer_lightning.replay import scoring
from axformer_lightning.surgery import cut_
from axformer_lightning.sweeps.importance import (
    Scores,
    magnitude_scores,
    most_important,
    taylor_scores,
    with_gradients,
)
from axformer_lightning.sweeps.reports import mean_loss

Batches = Sequence[Mapping[str, Tensor]]
Method = Callable[[PreTrainedModel, Batches, Sequence[float], Effort], Iterator[float]]
Choose = Callable[[PreTrainedModel, Batches, Sequence[LayerSize], float], tuple[Layers, Repair | None] | None]
ABOVE = 1.1  # how far above a size whole layers may be, as there is nothing in between
NORMALIZERS = ("mean", None)  # torch-pruning's default, by which all blocks are alike, and scores as they are


def ours(
    model: PreTrainedModel, search: Batches, ratios: Sequence[float], effort: Effort, *, repairs: bool = True
) -> Iterator[float]:
    """Shrink by what cut and repaired models lose on the search set.

    Args:
        model: is cut in place.
        search: the batches that decide.
        ratios: of the encoder's size, ascending; each begins with the model of the one before.
        effort: how much is measured.
        repairs: whether what is left of a block is repaired.
    """
    dense = count_encoder_parameters(model)
    for ratio in ratios:
        factor = ratio * count_encoder_parameters(model) / dense
        if factor > 1:
            for _ in shrink_(model, model, search, Budget({"encoder_size_ratio": factor}, effort), repairs=repairs):
                pass
        yield ratio


def in_slices(
    model: PreTrainedModel, search: Batches, ratios: Sequence[float], effort: Effort, *, choose: Choose
) -> Iterator[float]:
    """Shrink in slices as large as those of :func:`~axformer_lightning.budgets.shrink_`, deciding anew in each.

    Ends before the first ratio that cannot be reached.

    Args:
        model: as of :func:`ours`.
        search: as of :func:`ours`.
        ratios: as of :func:`ours`.
        effort: not used.
        choose: gets the model as it is, the search set, the sizes of its layers and the most parameters of all blocks;
            returns what is to be left, and how that is repaired; None where nothing is within the budget.
    """
    sizes, dense = layer_sizes(model), count_encoder_parameters(model)
    fixed = sum(size.others for size in sizes)
    for ratio in ratios:
        now = count_encoder_parameters(model)
        factor = ratio * now / dense
        slices = math.ceil(math.log(factor) / math.log(STEP) - 1e-9) if factor > 1 else 0
        for number in range(1, slices + 1):
            chosen = choose(model, search, sizes, now / factor ** (number / slices) - fixed)
            if chosen is None:
                return
            layers, repair = chosen
            cut_(model, replace(plan_of(model), layers=layers))
            if repair is not None:
                apply_repair_(model, repair)
        yield ratio


def by_output_error(
    model: PreTrainedModel, search: Batches, sizes: Sequence[LayerSize], budget: float
) -> tuple[Layers, Repair]:
    """Choose by a program over the errors of the blocks' outputs, cut and repaired; nothing is measured on the task.

    The error of a block's output as its damage is that of arXiv 2302.04089 (ZipLM); its other parts are left out.
    """
    anatomy, before = anatomy_of(model), layers_left(model)
    with scoring(model, model):
        moments = measure_moments(model, model, search)
        left = {name: units for name, units in widths_of(anatomy, before).items() if units is not None}
        orders = {name: block_order(model, moments, *name) for name in left}
        widths = {name: ladder(units) for name, units in left.items()}
        costs = [[sizes[i].blocks[kind].parameters(w) for w in own] for (i, kind), own in widths.items()]
        errors = [[lost_share(orders[name], w) for w in own] for name, own in widths.items()]
        chosen = least_damage(costs, errors, budget)
        picked = {name: own[at] for (name, own), at in zip(widths.items(), chosen, strict=True)}
        layers = layers_of(anatomy, before, orders, picked)
        return layers, find_repair(model, layers, moments, means=False)  # as ours


def by_magnitude(
    model: PreTrainedModel, search: Batches, sizes: Sequence[LayerSize], budget: float
) -> tuple[Layers, None] | None:
    """Choose by the norms of weights, by torch-pruning."""
    return _best(model, search, sizes, budget, [magnitude_scores(model, normalizer) for normalizer in NORMALIZERS])


def by_taylor(
    model: PreTrainedModel, search: Batches, sizes: Sequence[LayerSize], budget: float
) -> tuple[Layers, None] | None:
    """Choose by first-order importance on the search set, by torch-pruning."""
    with with_gradients(model, search):
        scores = [taylor_scores(model, normalizer) for normalizer in NORMALIZERS]
    return _best(model, search, sizes, budget, scores)


def _best(
    model: PreTrainedModel, search: Batches, sizes: Sequence[LayerSize], budget: float, scores: Sequence[Scores]
) -> tuple[Layers, None] | None:
    """Return the choice with the least search loss of those that different scores make."""
    found = {layers for one in scores if (layers := most_important(model, one, sizes, budget)) is not None}
    if not found:
        return None
    return min(sorted(found, key=repr), key=lambda layers: _loss_as_cut(model, search, layers)), None


def _loss_as_cut(model: PreTrainedModel, search: Batches, layers: Layers) -> float:
    with scoring(model, model), closed(model, layers):
        return mean_loss(model, search)


def top_layers(model: PreTrainedModel, search: Batches, ratios: Sequence[float], effort: Effort) -> Iterator[float]:
    """Drop whole layers from the top, norms included, as arXiv 2004.03844 does.

    As many stay as are within the size, or above it by a tenth at most. Ends before a ratio at which none would.

    Args:
        model: as of :func:`ours`.
        search: not used.
        ratios: as of :func:`ours`.
        effort: not used.

    Raises:
        ValueError: if the layers are not in one list.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
        >>> model = BertModel(BertConfig(**sizes))
        >>> [(ratio, len(model.encoder.layer)) for ratio in top_layers(model, [], [1.5, 2, 9], Effort())]
        [(1.5, 2), (2, 2)]
    """
    names = anatomy_of(model).layers
    parents = {name.rpartition(".")[0] for name in names}
    if len(parents) > 1:
        raise ValueError(
            f"Expected the layers of a {model.config.model_type!r} model in one list, got {sorted(parents)}. Leave out"
            " the method `top_layers`."
        )
    stack = model.get_submodule(parents.pop())
    dense = count_encoder_parameters(model)
    for ratio in ratios:
        while count_parameters(stack) > ABOVE * dense / ratio:
            if len(stack) == 1:  # type: ignore[arg-type]
                return
            del stack[-1]  # type: ignore[operator]
        model.config.num_hidden_layers = len(stack)  # type: ignore[arg-type]
        yield ratio


METHODS: dict[str, Method] = {
    "ours": ours,
    "unrepaired": partial(ours, repairs=False),
    "output_error": partial(in_slices, choose=by_output_error),
    "magnitude": partial(in_slices, choose=by_magnitude),
    "taylor": partial(in_slices, choose=by_taylor),
    "top_layers": top_layers,
}
