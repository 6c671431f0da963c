"""The model that is traced: a copy in plain floats that any engine can run, and what to trace it with."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Block, anatomy_of, layers_left
from axformer_lightning.costs import uniform_batch
from axformer_lightning.gates import stand_ins
from axformer_lightning.int8 import set_int8_

TRACED_BATCH, TRACED_LENGTH = 2, 9


class Constant(nn.Module):
    """Stand-in for a block without units, which gives the bias of its last linear layer whatever it reads.

    Engines refuse to reshape what has no entries.

    Args:
        value: what it gives, or None for zero.
        num_outputs: how many values the block returns; those after the first are None.

    Example:
        >>> Constant(torch.ones(2), num_outputs=2)(torch.zeros(1, 3, 2))
        (Parameter containing: tensor([1., 1.], requires_grad=True), None)
    """

    def __init__(self, value: Tensor | None, num_outputs: int = 1) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()) if value is None else value.detach())
        self.num_outputs = num_outputs

    def forward(self, *args: object, **kwargs: object) -> Any:
        """Return the value."""
        return self.value if self.num_outputs == 1 else (self.value, *(None,) * (self.num_outputs - 1))


def plain_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of ``model`` in eval mode and float32 on the CPU that computes the same by plain operators.

    Weights that are in int8 stay as they are, and are not rounded any more. Attention is eager: of its products and
    softmax ONNX Runtime makes one operator, and hard attention calls no kernel of ours.
    """
    plain: PreTrainedModel = copy.deepcopy(model).float().cpu().eval()
    plain.requires_grad_(False)
    plain.config.return_dict = True  # outputs are known by their names
    anatomy = anatomy_of(plain)
    set_int8_(plain, anatomy.dense_layers())
    plain.set_attn_implementation("eager")
    for i, layer in enumerate(layers_left(plain)):
        for block in anatomy.blocks:
            if block.left(layer) == []:
                _make_constant(plain, anatomy.name, i, block)
    return plain


def _make_constant(model: PreTrainedModel, name: Any, i: int, block: Block) -> None:
    out: Any = model.get_submodule(name(i, block.out_projection))
    *first, last = block.modules
    for part, stand_in in stand_ins(block).items():
        if part in first:
            model.set_submodule(name(i, part), stand_in)
    model.set_submodule(name(i, last), Constant(out.bias, block.modules[last]))


def example(model: PreTrainedModel, wants: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Return a batch to trace ``model`` with: two samples, of which one is padded.

    Args:
        model: to be traced.
        wants: names that its tokenizer gives; by default what the model tells apart.
    """
    batch = uniform_batch(model, TRACED_BATCH, TRACED_LENGTH)
    if "attention_mask" in batch:
        batch["attention_mask"][0, TRACED_LENGTH // 2 :] = 0
        types = getattr(model.config, "type_vocab_size", 0) or 0
        if (types > 1) if wants is None else ("token_type_ids" in wants and types > 0):
            batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    return batch


def dynamic_shapes(batch: dict[str, Tensor]) -> dict[str, dict[int, Any]]:
    """Return which dimensions of ``batch`` may change: the number of samples, and of tokens."""
    any_size = torch.export.Dim.DYNAMIC
    return {name: dict.fromkeys((0, 1) if value.dim() == 2 else (0,), any_size) for name, value in batch.items()}
