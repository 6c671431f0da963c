"""Counting what the layers of a model really run, however it is called.

Shape suffixes: ``B`` batch, ``T`` tokens, ``C`` features.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, LayerPlan, layer_modules

OnCall = Callable[[int, int, int], None]


@contextmanager
def watching_layers(model: PreTrainedModel, on_call: OnCall) -> Iterator[None]:
    """Tell ``on_call`` of every run of a layer of ``model``: which layer, how many rows, how many tokens in each.

    So towers that share a model, images and layers that are applied several times all count as what they run.
    """
    with ExitStack() as undo:
        for i, layer in enumerate(layer_modules(model)):
            hook = partial(_tell, on_call=on_call, layer=i)
            undo.callback(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def _tell(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], on_call: OnCall, layer: int) -> None:
    x_BTC = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
    *rows, tokens, _ = x_BTC.shape
    on_call(layer, math.prod(rows), tokens)


def multiply_adds(anatomy: Anatomy, layer: LayerPlan, tokens: int) -> float:
    """Return the multiply-adds of a layer's matrix products, per token, in a sequence of ``tokens``.

    Example:
        >>> from axformer_lightning.anatomy import BERT
        >>> multiply_adds(Anatomy("bert", BERT, ("layer.0",), 4, 2, 16), LayerPlan(), tokens=10)
        672.0
    """
    hidden = anatomy.num_heads * anatomy.head_size
    num_heads, neurons = _num_units(layer, anatomy.num_heads, anatomy.intermediate_size)
    heads = num_heads * anatomy.head_size
    attention, feed_forward = anatomy.blocks
    linears = attention.num_linears * heads + feed_forward.num_linears * neurons
    return float(hidden * linears + 2 * tokens * heads)


@lru_cache(maxsize=1024)  # asked for every layer of every batch of every candidate, for few different layers
def _num_units(layer: LayerPlan, num_heads: int, intermediate_size: int) -> tuple[int, int]:
    """Return how many heads and neurons are left of a layer."""
    return len(layer.kept_heads(num_heads)), len(layer.kept_neurons(intermediate_size))
