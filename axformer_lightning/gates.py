"""CLOSE: switch blocks, heads and neurons off while deciding, and on again.

Shape suffixes: ``B`` batch, ``T`` tokens, ``C`` features, ``U`` units (heads or neurons).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, Block, LayerPlan, anatomy_of, layers_left
from axformer_lightning.basics import first_tensor, replaced


class Removed(nn.Module):
    """Stand-in for a removed part: returns a zero that vanishes in the residual sum, or no features.

    Args:
        num_outputs: how many values the part returns; those after the first are None.
        featureless: whether the first has the shape of the input, except that it has no features.

    Example:
        >>> Removed(2)(torch.ones(3))
        (tensor(0.), None)
        >>> Removed(featureless=True)(torch.ones(2, 3)).shape
        torch.Size([2, 0])
    """

    def __init__(self, num_outputs: int = 1, featureless: bool = False) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.featureless = featureless

    def forward(self, *args: object, **kwargs: object) -> Tensor | tuple[Tensor | None, ...]:
        """Return a zero-dimensional zero, or a tensor without features, as the first tensor that is given."""
        x = first_tensor(*args, **kwargs)
        nothing = x.new_zeros((*x.shape[:-1], 0) if self.featureless else ())
        return nothing if self.num_outputs == 1 else (nothing, *(None,) * (self.num_outputs - 1))

    def extra_repr(self) -> str:
        """Show the settings in ``repr``."""
        return f"num_outputs={self.num_outputs}, featureless={self.featureless}"


@contextmanager
def closed(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> Iterator[None]:
    """Run ``model`` as if it were cut to ``layers``; weights and ``state_dict`` are never touched.

    A closed block writes nothing, bias included, and is not computed. A closed head or neuron is zero where
    the block's last linear layer reads it, so that layer's bias stays (arXiv 2010.03688, section 3.2).

    Args:
        model: a model of a known family; parts that are cut stay cut.
        layers: what is to be left of each layer, in indices of the original model.

    Raises:
        ValueError: if ``layers`` does not have one entry per layer.
    """
    anatomy = anatomy_of(model)
    if len(layers) != anatomy.num_layers:
        raise ValueError(f"Expected one LayerPlan for each of {anatomy.num_layers} layers, got {len(layers)}.")
    with ExitStack() as undo:
        for i, (wanted, now) in enumerate(zip(layers, layers_left(model), strict=True)):
            for remove in _gates_of_layer(model, anatomy, i, wanted, now):
                undo.callback(remove)
        yield


def _gates_of_layer(
    model: PreTrainedModel, anatomy: Anatomy, i: int, wanted: LayerPlan, now: LayerPlan
) -> Iterator[Callable[[], object]]:
    """Close the parts that ``now`` has and ``wanted`` lacks; yield what undoes each step."""
    for block in anatomy.blocks:
        units_had, units_wanted = block.left(now), block.left(wanted)
        if units_had is None:
            continue
        if units_wanted is None:
            for part, stub in stand_ins(block).items():
                yield replaced(model.get_submodule(anatomy.name(i, part)), stub.forward)
        elif units_had != units_wanted:
            open_U = _is_member(units_had, units_wanted)
            module = model.get_submodule(anatomy.name(i, block.out_projection))
            yield module.register_forward_pre_hook(partial(_close_units, open_U=open_U)).remove


def stand_ins(block: Block) -> dict[str, Removed]:
    """Return the stand-in for each module of a removed ``block``."""
    return {part: Removed(outputs, part in block.without_units) for part, outputs in block.modules.items()}


def _close_units(out_projection: nn.Module, args: tuple[Tensor, ...], open_U: Tensor) -> tuple[Tensor, ...]:
    x_BTC, *rest = args
    closed_C = ~open_U.to(x_BTC.device).repeat_interleave(x_BTC.shape[-1] // open_U.numel())
    return (x_BTC.masked_fill(closed_C, 0), *rest)


def _is_member(units: Iterable[int], others: Iterable[int]) -> Tensor:
    wanted = set(others)
    return torch.tensor([unit in wanted for unit in units])
