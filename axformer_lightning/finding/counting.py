"""Seeing what the layers of a model really run, however it is called.

Shape suffixes: ``B`` batch, ``T`` tokens, ``C`` features.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import layer_modules

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
