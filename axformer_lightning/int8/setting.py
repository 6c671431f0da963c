"""Which parts of a model are in int8, and putting them there, reversibly."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import WORD_EMBEDDINGS, BlockRanges, LayerPlan, anatomy_of
from axformer_lightning.int8.layers import PLAIN, ROUNDED, Int8Linear


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
    kinds, found = (*ROUNDED, *PLAIN), dict[str, nn.Module]()
    if any(WORD_EMBEDDINGS in layer.int8 for layer in layers):
        words = model.get_input_embeddings()
        found |= {name: module for name, module in model.named_modules() if module is words}
    found |= {part.name: part.module for part in parts_in_int8(model, layers)}
    return {name: module for name, module in found.items() if type(module) in kinds}


def int8_ranges(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> dict[str, tuple[float, float]]:
    """Return the ranges of the linear layers that ``layers`` want in static int8, by name relative to the model."""
    return {
        part.name: ranges.inner if part.is_inner else ranges.outer
        for part in parts_in_int8(model, layers)
        if (ranges := layers[part.layer].ranges_of(part.block))
    }


def all_in_int8(
    model: PreTrainedModel, layers: Sequence[LayerPlan], ranges: Sequence[Mapping[str, BlockRanges]] = ()
) -> tuple[LayerPlan, ...]:
    """Return ``layers`` with all that can be in int8.

    Args:
        model: cut as ``layers`` say.
        layers: what is left of each layer.
        ranges: of each layer by kind of block, for static int8.
    """
    blocks, full = anatomy_of(model).blocks, []
    for i, layer in enumerate(layers):
        layer = layer.in_int8(WORD_EMBEDDINGS) if i == 0 and has_embeddings(model) else layer
        for block in blocks:
            if block.left(layer):
                layer = layer.in_int8(block.kind, ranges[i][block.kind] if ranges else None)
        full.append(layer)
    return tuple(full)


class Part(NamedTuple):
    """One linear layer of a block that is to be in int8.

    Attributes:
        layer: index of the layer.
        block: kind of the block.
        is_inner: whether it is the out-projection, which reads what lies within the block.
        name: relative to the model.
        module: the linear layer, or what stands in its place.
    """

    layer: int
    block: str
    is_inner: bool
    name: str
    module: nn.Module


def parts_in_int8(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> Iterator[Part]:
    """Yield the linear layers of the blocks that ``layers`` want in int8."""
    anatomy = anatomy_of(model)
    for i, layer in enumerate(layers):
        for block in anatomy.blocks:
            if block.kind not in layer.int8 or not block.left(layer):
                continue
            inside = dict(model.get_submodule(anatomy.layers[i]).named_modules())
            for part in (*block.in_projections, block.out_projection):
                if part in inside:
                    is_inner = part == block.out_projection
                    yield Part(i, block.kind, is_inner, anatomy.name(i, part), inside[part])


def check_can_be_int8(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> None:
    """Raise unless ``model`` can compute in int8 where ``layers`` say so.

    Raises:
        ValueError: if weights are not in float32, or the embeddings that are to be in int8 are those of no words.
    """
    parts = {part.name: part.module for part in parts_in_int8(model, layers)} | int8_modules(model, layers)
    for name, module in parts.items():
        dtype = getattr(module, "weight", model).dtype  # a block that is gone comes back in the type of the model
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
        if kind in PLAIN:
            module.__dict__.pop("int8_range", None)
            module.__class__ = PLAIN[kind]
        if id(module) in wanted:
            module.__class__ = ROUNDED[type(module)]
    for name, range_ in int8_ranges(model, layers).items():
        module = model.get_submodule(name)
        if isinstance(module, Int8Linear):
            module.int8_range = range_


@contextmanager
def rounding(model: PreTrainedModel, layers: Sequence[LayerPlan], before: Sequence[LayerPlan]) -> Iterator[None]:
    """Run ``model`` with what ``layers`` want in int8, and restore that of ``before`` afterwards."""
    pairs = zip(layers, before, strict=True)
    if all((layer.int8, layer.int8_ranges) == (was.int8, was.int8_ranges) for layer, was in pairs):
        yield
        return
    set_int8_(model, layers)
    try:
        yield
    finally:
        set_int8_(model, before)
