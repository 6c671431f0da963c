"""What the loss would change by without each component, to first order: one backward pass for all of them.

Shape suffixes: ``B`` batch, ``T`` tokens, ``C`` features.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import KINDS, Anatomy, Candidate, LayerPlan, SearchSpace
from axformer_lightning.scoring import Scored

Place = tuple[int, str, str]  # layer, block, and whether its units or its result


def predicted_changes(
    score: Callable[[Any], Scored],
    batches: Iterable[Any],
    transformer: PreTrainedModel,
    anatomy: Anatomy,
    layers: Sequence[LayerPlan],
    space: SearchSpace,
) -> Mapping[Candidate, float]:
    """Return by how much the summed loss would change without each block, head and neuron group.

    Switching a component off is moving what it puts out to zero, so the change is minus its gradient times itself.

    Source: Molchanov et al. 2017 (arXiv 1611.06440), equation 8, with its sign; Michel et al. 2019 (arXiv 1905.10650)
    for heads.

    Args:
        score: scores a batch.
        batches: the search set.
        transformer: the model, as it is.
        anatomy: its parts.
        layers: what is left of each layer.
        space: what the indices of candidates stand for.

    Raises:
        ValueError: if the losses do not depend on the layers in a way that can be differentiated.
    """
    slopes: dict[Place, Tensor] = {}
    for batch in batches:
        with torch.enable_grad(), _values(transformer, anatomy, layers) as values:
            loss = score(batch).loss_N.double().sum()
            if values and not loss.requires_grad:  # a batch may go through no layer at all
                raise ValueError(
                    "Expected losses that can be differentiated for strategy='best_first', got some without gradient."
                    " Take `torch.no_grad` out of `axformer_step`, or use strategy='reference'."
                )
            flat = [value for calls in values.values() for value in calls]
            gradients = iter(torch.autograd.grad(loss, flat, allow_unused=True) if flat else ())
        for place, calls in values.items():
            for value in calls:
                gradient = next(gradients)
                if gradient is not None:
                    slope_C = (gradient * value).detach().double().flatten(0, -2).sum(0)
                    slopes[place] = slopes.get(place, torch.zeros_like(slope_C)) + slope_C
    return dict(_changes(slopes, anatomy, layers, space))


def _changes(
    slopes: Mapping[Place, Tensor], anatomy: Anatomy, layers: Sequence[LayerPlan], space: SearchSpace
) -> Iterator[tuple[Candidate, float]]:
    for i, layer in enumerate(layers):
        for block in anatomy.blocks:
            units = block.left(layer)
            if units is None:
                continue
            of_result = slopes.get((i, block.kind, "result"))
            whole = 0.0 if of_result is None else -float(of_result.sum())
            of_units = slopes.get((i, block.kind, "units"))
            by_unit = [0.0] * len(units) if of_units is None else of_units.view(-1, block.width).sum(1).tolist()
            slope = dict(zip(units, by_unit, strict=True))
            for name, kind in KINDS.items():
                for index in kind.offers(layer, space.at(i)) if kind.block == block.kind else ():
                    candidate = Candidate(name, i, index)
                    closed = candidate.units(space)
                    yield candidate, whole if closed is None else -sum(slope.get(unit, 0.0) for unit in closed)


@contextmanager
def _values(
    transformer: PreTrainedModel, anatomy: Anatomy, layers: Sequence[LayerPlan]
) -> Iterator[dict[Place, list[Tensor]]]:
    """Yield the units and the result of every block, by place and call, while the model runs."""
    values: dict[Place, list[Tensor]] = {}

    def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor, place: tuple[int, str]) -> None:
        if output.dim() > 0:  # else a block that is closed
            values.setdefault((*place, "units"), []).append(args[0])
            values.setdefault((*place, "result"), []).append(output)

    with ExitStack() as undo:
        first = transformer.get_submodule(anatomy.layers[0])
        undo.callback(first.register_forward_pre_hook(_begin_graph, with_kwargs=True).remove)
        for i, layer in enumerate(layers):
            for block in anatomy.blocks:
                if block.left(layer) is not None:
                    out_projection = transformer.get_submodule(anatomy.name(i, block.out_projection))
                    undo.callback(out_projection.register_forward_hook(partial(note, place=(i, block.kind))).remove)
        yield values


def _begin_graph(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Let gradients reach every layer, also of a model whose parameters are frozen."""

    def begun(value: Any) -> Any:
        starts = isinstance(value, Tensor) and value.is_floating_point() and not value.requires_grad
        return value.detach().requires_grad_() if starts else value

    return tuple(map(begun, args[:1])) + args[1:], {
        name: begun(value) if name == "hidden_states" else value for name, value in kwargs.items()
    }
