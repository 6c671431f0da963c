"""Which parts of a model are in int8, and putting them there, reversibly."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import WORD_EMBEDDINGS, LayerPlan, anatomy_of
from axformer_lightning.int8.layers import PLAIN, ROUNDED


def int8_modules(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> dict[str, nn.Module]:
    """Return the linear layers and embeddings that ``layers`` want in int8, by name relative to the model.

    Args:
        model: cut as ``layers`` say.
        layers: what is left of each layer, and which of its blocks are in int8.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4))
        >>> list(int8_modules(model, [LayerPlan(int8=("embeddings", "feed_forward"))]))
        ['embeddings.word_embeddings', 'encoder.layer.0.intermediate.dense', 'encoder.layer.0.output.dense']
    """
    anatomy, kinds = anatomy_of(model), (*ROUNDED, *PLAIN)
    found: dict[str, nn.Module] = {}
    for i, layer in enumerate(layers):
        if WORD_EMBEDDINGS in layer.int8:
            words = model.get_input_embeddings()
            found |= {name: module for name, module in model.named_modules() if module is words}
        for block in anatomy.blocks:
            if block.kind not in layer.int8 or not block.left(layer):
                continue
            inside = dict(model.get_submodule(anatomy.layers[i]).named_modules())
            parts = [part for part in (*block.in_projections, block.out_projection) if part in inside]
            found |= {anatomy.name(i, part): inside[part] for part in parts}
    return {name: module for name, module in found.items() if type(module) in kinds}


def check_can_be_int8(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> None:
    """Raise unless ``model`` can compute in int8 where ``layers`` say so.

    Raises:
        ValueError: if weights are not in float32, or the embeddings that are to be in int8 are those of no words.
    """
    for name, module in int8_modules(model, layers).items():
        dtype = module.weight.dtype
        if dtype != torch.float32:
            raise ValueError(
                f"Expected weights in float32 to round to int8 at {name!r}, got {dtype}. Call `model.float()` first."
            )
    if any(WORD_EMBEDDINGS in layer.int8 for layer in layers) and not has_embeddings(model):
        raise ValueError(
            f"Expected a {type(model).__name__} with plain embeddings of words to have them in int8, got"
            f" {type(model.get_input_embeddings()).__name__}."
        )


def has_embeddings(model: PreTrainedModel) -> bool:
    """Tell whether a model has plain embeddings of words, which can be in int8."""
    return type(model.get_input_embeddings()) in (nn.Embedding, ROUNDED[nn.Embedding])


def set_int8_(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> None:
    """Put the parts of ``model`` in int8 that ``layers`` say, and all others back into floats; weights stay the same.

    A module changes its class alone, so parameters, hooks and names are the same.
    """
    wanted = set(map(id, int8_modules(model, layers).values()))
    for module in model.modules():
        kind = type(module)
        if id(module) in wanted:
            module.__class__ = ROUNDED.get(kind, kind)
        elif kind in PLAIN:
            module.__class__ = PLAIN[kind]


@contextmanager
def rounding(model: PreTrainedModel, layers: Sequence[LayerPlan], before: Sequence[LayerPlan]) -> Iterator[None]:
    """Run ``model`` with what ``layers`` want in int8, and restore that of ``before`` afterwards."""
    if all(layer.int8 == was.int8 for layer, was in zip(layers, before, strict=True)):
        yield
        return
    set_int8_(model, layers)
    try:
        yield
    finally:
        set_int8_(model, before)
