"""Which of the layers' outputs a step reads, found out by withholding the rest: a result that reads NaN is NaN.

Shape suffixes: ``B`` batch, ``T`` tokens, ``C`` features.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from transformers import PreTrainedModel

from axformer_lightning.basics import first_tensor, replaced
from axformer_lightning.scoring import Scored

ROUNDING = 1e-4, 1e-6  # relative and absolute


class Reads(IntEnum):
    """Which of the layers' outputs the rest of a step may depend on."""

    EVERYTHING = 0
    LAST_LAYER = 1
    FIRST_TOKEN = 2  # of the last layer


@dataclass
class Heard:
    """The calls of the layers in one step.

    Args:
        order: the layers in the order called.
        model_calls: how often the model around them was called.
        sizes: rows and tokens per row, for every call of a layer.
        inputs: input of the first layer, by call.
        outputs: output of each layer, by layer and call.
    """

    order: list[int] = field(default_factory=list)
    model_calls: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: dict[int, list[Any]] = field(default_factory=dict)


@contextmanager
def listening(model: PreTrainedModel, layers: Sequence[nn.Module]) -> Iterator[Heard]:
    """Record the inputs and outputs of ``layers``."""
    heard = Heard()

    def before_model(*_: Any) -> None:
        heard.model_calls += 1

    def before_layer(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], i: int) -> None:
        x_BTC = first_tensor(*args, **kwargs)
        heard.order.append(i)
        heard.sizes.append((math.prod(x_BTC.shape[:-2]), x_BTC.shape[-2]))
        if i == 0:
            heard.inputs.append(x_BTC)

    def after_layer(module: nn.Module, args: tuple[Any, ...], output: Any, i: int) -> None:
        heard.outputs.setdefault(i, []).append(output)

    with ExitStack() as undo:
        undo.callback(model.base_model.register_forward_pre_hook(before_model).remove)
        for i, layer in enumerate(layers):
            undo.callback(layer.register_forward_pre_hook(partial(before_layer, i=i), with_kwargs=True).remove)
            undo.callback(layer.register_forward_hook(partial(after_layer, i=i)).remove)
        yield heard


def what_is_read(
    score: Callable[[], Scored], result: Scored, model: PreTrainedModel, layers: Sequence[nn.Module], heard: Heard
) -> Reads:
    """Tell which of the layers' outputs ``score`` reads.

    Args:
        score: runs the step again.
        result: what it returned in the recorded run.
        model: the model that the step calls.
        layers: its layers.
        heard: their calls in the recorded run.
    """
    num_layers = len(layers)
    if not heard.model_calls or heard.order != list(range(num_layers)) * heard.model_calls:
        return Reads.EVERYTHING  # layers that are applied several times, skipped, or called from outside the model
    nothing = {i: [_withheld(output, 0) for output in outputs] for i, outputs in heard.outputs.items()}
    if heard.model_calls > 1 and not _is_parallel(score, model, layers, nothing, heard.inputs):
        return Reads.EVERYTHING
    last = num_layers - 1
    first_token = [_withheld(output, 1) for output in heard.outputs[last]]
    for reads, shown in ((Reads.FIRST_TOKEN, first_token), (Reads.LAST_LAYER, heard.outputs[last])):
        if _same(_rerun(score, layers, {**nothing, last: shown}), result):
            return reads
    return Reads.EVERYTHING


def _is_parallel(
    score: Callable[[], Scored],
    model: PreTrainedModel,
    layers: Sequence[nn.Module],
    nothing: dict[int, list[Any]],
    inputs: list[Tensor],
) -> bool:
    """Tell whether no call of the model depends on the result of another call."""
    with listening(model, layers) as heard:
        _rerun(score, layers, nothing)
    return len(heard.inputs) == len(inputs) and all(map(torch.equal, heard.inputs, inputs))


def _rerun(score: Callable[[], Scored], layers: Sequence[nn.Module], outputs: dict[int, list[Any]]) -> Scored | None:
    """Return what the step computes from ``outputs``, or None if they make it fail."""
    with ExitStack() as undo:
        for i, layer in enumerate(layers):
            calls = iter(outputs[i])
            undo.callback(replaced(layer, lambda *args, calls=calls, **kwargs: next(calls)))
        try:
            return score()
        except Exception:  # a user's step may raise anything when an output is withheld: then it reads that output
            return None


def _same(found: Any, result: Any) -> bool:
    """Tell whether two results are equal up to rounding, whatever the types of predictions and targets.

    Rounding may differ, as linear algebra libraries choose call by call how to split a product among threads.
    """
    if isinstance(found, Tensor) and isinstance(result, Tensor):
        if not (found.is_floating_point() and result.is_floating_point()):
            return torch.equal(found, result)
        return found.shape == result.shape and torch.allclose(found, result, *ROUNDING)
    if isinstance(found, tuple | list) and isinstance(result, tuple | list):
        return len(found) == len(result) and all(map(_same, found, result))
    return bool(found == result)


def _withheld(output: Any, tokens: int) -> Any:
    """Return a layer's output with NaN in place of all but the first ``tokens``."""

    def withhold(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        left_BTC = torch.full_like(value, torch.nan)
        if tokens and value.dim() == 3:
            left_BTC[:, :tokens] = value[:, :tokens]
        return left_BTC

    return tree_map(withhold, output)
