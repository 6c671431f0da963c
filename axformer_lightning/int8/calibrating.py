"""Calibration: the ranges of what the linear layers of a model read, for static int8."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import BLOCKS, BlockRanges, LayerPlan
from axformer_lightning.int8.setting import Part, all_in_int8, parts_in_int8

RangesOfLayer = Mapping[str, BlockRanges]


class Observed:
    """The largest of the negative of what was read, and of itself, by layer, block, and inside of the block or not.

    Zero where nothing was read.

    Args:
        num_layers: of the model.
        device: of the model.
    """

    def __init__(self, num_layers: int, device: torch.device) -> None:
        self.most = torch.zeros(num_layers, len(BLOCKS), 2, 2, device=device, dtype=torch.float32)

    def see(self, part: Part, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Take down what a linear layer reads; a forward pre-hook but for its first argument."""
        x = args[0].detach().float()
        if x.numel():
            at = self.most[part.layer, BLOCKS.index(part.block), int(part.is_inner)]
            torch.maximum(at, torch.stack([-x.amin(), x.amax()]), out=at)

    def together(self, gather: Callable[[Sequence[float]], Sequence[Sequence[float]]]) -> Sequence[RangesOfLayer]:
        """Return the ranges of each layer by kind of block, over all that any process has seen.

        Args:
            gather: gives the numbers of every process for those of this one.
        """
        everyones = torch.tensor(gather(self.most.flatten().tolist()), dtype=torch.float32)
        layers = everyones.amax(dim=0).view(self.most.shape).tolist()
        return [
            {kind: BlockRanges(kind, *map(_range, sides)) for kind, sides in zip(BLOCKS, layer, strict=True)}
            for layer in layers
        ]


def _range(most: Sequence[float]) -> tuple[float, float]:
    return min(0.0, -most[0]), most[1]


@contextmanager
def observing(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> Iterator[Observed]:
    """Observe what the linear layers of ``model`` read in the blocks that ``layers`` leave, padding included.

    Args:
        model: of a known family; it computes as it did.
        layers: what is left of it.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4))
        >>> with observing(model, [LayerPlan()]) as observed:
        ...     _ = model(torch.tensor([[3, 5, 7]]))
        >>> least, most = observed.together(lambda values: [values])[0]["feed_forward"].outer
        >>> least < 0 < most
        True
    """
    observed = Observed(len(layers), model.device)
    with ExitStack() as undo:
        for part in parts_in_int8(model, all_in_int8(model, layers)):
            undo.callback(part.module.register_forward_pre_hook(partial(observed.see, part)).remove)
        yield observed
