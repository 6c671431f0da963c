"""Which heads and neurons go by the importance that torch-pruning gives them.

torch-pruning (arXiv 2301.12900) scores; which weights form a unit, how many units go, and the cut are ours: its own
groups come from tracing, which does not serve every family. In BERT they are the same, and its own pruner ranks units
alike (tests/sweeps/test_importance.py).

Shape suffixes: ``U`` units of a block.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, Block, LayerPlan, anatomy_of, layers_left
from axformer_lightning.basics import eval_mode
from axformer_lightning.costs import LayerSize
from axformer_lightning.repair import BlockName
from axformer_lightning.scoring import step_of, to_device

Scores = Mapping[BlockName, Tensor]  # of each unit that is left of a block


def check_installed() -> None:
    """Raise an error where torch-pruning is missing.

    Raises:
        ModuleNotFoundError: if it is.
    """
    if importlib.util.find_spec("torch_pruning") is None:
        raise ModuleNotFoundError(
            "Expected the package torch-pruning for importance scores, found none. Install the extra `bench`, or leave"
            " out the methods `magnitude` and `taylor`."
        )


def magnitude_scores(model: PreTrainedModel, normalizer: str | None = "mean") -> Scores:
    """Return the squared norm of the weights of every head and neuron.

    Args:
        model: dense or cut.
        normalizer: torch-pruning's: by what the scores of a block are divided; None leaves them.

    Raises:
        ModuleNotFoundError: if torch-pruning is missing.
    """
    check_installed()
    from torch_pruning.pruner.importance import MagnitudeImportance

    return _scores(model, MagnitudeImportance(p=2, normalizer=normalizer))


def taylor_scores(model: PreTrainedModel, normalizer: str | None = "mean") -> Scores:
    """Return the first-order importance of every head and neuron: absolute weights times gradients, added up.

    Args:
        model: dense or cut, with gradients (:func:`with_gradients`).
        normalizer: as of :func:`magnitude_scores`.

    Raises:
        ModuleNotFoundError: if torch-pruning is missing.
    """
    check_installed()
    from torch_pruning.pruner.importance import TaylorImportance

    return _scores(model, TaylorImportance(normalizer=normalizer))


@contextmanager
def with_gradients(model: PreTrainedModel, batches: Sequence[Mapping[str, Tensor]]) -> Iterator[None]:
    """Let every parameter have the gradient of the mean loss, without dropout; afterwards none has one.

    Args:
        model: dense or cut.
        batches: with `labels`.
    """
    step = step_of(model, model.config.problem_type)
    samples = sum(len(batch["labels"]) for batch in batches)
    model.zero_grad(set_to_none=True)
    try:
        with torch.enable_grad(), eval_mode(model):
            for batch in batches:
                (step(to_device(batch, model.device)).loss_N.sum() / samples).backward()
        yield
    finally:
        model.zero_grad(set_to_none=True)


def most_important(
    model: PreTrainedModel, scores: Scores, sizes: Sequence[LayerSize], budget: float
) -> tuple[LayerPlan, ...] | None:
    """Return the layers without the least important units, or None where no choice is within the budget.

    As in torch-pruning heads are ranked among all heads and neurons among all neurons, the same share of both goes, and
    the last unit of a block stays.

    Args:
        model: what is left now.
        scores: of its units.
        sizes: of its layers.
        budget: most parameters of all blocks.

    Example:
        >>> from axformer_lightning.costs import layer_sizes
        >>> from transformers import BertConfig, BertModel
        >>> sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4}
        >>> model = BertModel(BertConfig(**sizes))  # a head has 38 parameters and a neuron 9, and each bias is 4
        >>> scores = {(0, "attention"): torch.tensor([0.2, 0.1]), (0, "feed_forward"): torch.tensor([1.0, 2, 3, 4])}
        >>> most_important(model, scores, layer_sizes(model), budget=38 + 2 * 9 + 8)
        (LayerPlan(..., heads_removed=(1,), ..., neurons_removed=((0, 2),), ...),)
    """
    anatomy, ranked = anatomy_of(model), {}
    for kind in ("attention", "feed_forward"):
        own = {name: score_U for name, score_U in scores.items() if name[1] == kind}
        ranked[kind] = _ranked(own)
    steps = max(map(len, ranked.values()))

    def left(step: int) -> dict[BlockName, list[int]]:
        kept: dict[BlockName, list[int]] = {name: [] for name in scores}
        for units in ranked.values():
            for name, unit in units[len(units) - len(units) * (steps - step) // steps :]:
                kept[name].append(unit)
        for name, score_U in scores.items():
            kept[name] = sorted(kept[name]) or [int(score_U.argmax())]
        return kept

    def fits(step: int) -> bool:
        return sum(sizes[i].blocks[kind].parameters(len(own)) for (i, kind), own in left(step).items()) <= budget

    low, high = 0, steps  # the fewest steps that fit
    if not fits(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    layers = list(layers_left(model))
    for (i, kind), units in left(high).items():
        block = anatomy.block(kind)
        had = block.left(layers[i])
        assert had is not None  # it has scores
        layers[i] = block.keeping(layers[i], [had[unit] for unit in units])
    return tuple(layers)


def _ranked(scores: Scores) -> list[tuple[BlockName, int]]:
    """Return all units, the least important first."""
    units = [(name, unit) for name, score_U in scores.items() for unit in range(len(score_U))]
    if not units:
        return []
    order = torch.cat(list(scores.values())).argsort(stable=True)
    return [units[i] for i in order.tolist()]


def _scores(model: PreTrainedModel, importance: Any) -> dict[BlockName, Tensor]:
    anatomy, found = anatomy_of(model), dict[BlockName, Tensor]()
    for i, layer in enumerate(layers_left(model)):
        for block in anatomy.blocks:
            units = len(block.left(layer) or ())
            if units:
                score = importance(group_of(model, anatomy, i, block, units))
                found[i, block.kind] = score.detach().cpu().double().view(units, -1).mean(1)
    return found


def group_of(model: PreTrainedModel, anatomy: Anatomy, i: int, block: Block, units: int) -> Any:
    """Return the rows and columns that make up the units of a block, as torch-pruning's group.

    Args:
        model: dense or cut.
        anatomy: of the model.
        i: the layer.
        block: which half of it.
        units: how many it has.
    """
    from torch_pruning import prune_linear_in_channels, prune_linear_out_channels
    from torch_pruning.dependency import Dependency, Group, Node

    group, columns = Group(), list(range(units * block.width))

    def add(part: str, prune: Any, indices: list[int]) -> None:
        node = Node(model.get_submodule(anatomy.name(i, part)), None, part)
        group.add_dep(Dependency(prune, prune, node, node), indices)
        group[len(group) - 1].root_idxs = columns

    parts = {name for name, _ in model.get_submodule(anatomy.layers[i]).named_modules()}
    for name, fused in block.in_projections.items():
        for part in range(fused if name in parts else 0):
            add(name, prune_linear_out_channels, [part * len(columns) + column for column in columns])
    add(block.out_projection, prune_linear_in_channels, columns)
    return group
