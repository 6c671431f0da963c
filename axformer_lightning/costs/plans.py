"""What a plan costs to keep and to run, by formula: no model is built."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from axformer_lightning.anatomy import WORD_EMBEDDINGS, Anatomy, LayerPlan, layers_left
from axformer_lightning.costs.formula import block_macs
from axformer_lightning.costs.measured import check_computes_all, macs_per_sample
from axformer_lightning.costs.sizes import STEP_BYTES, LayerSize, Sizes


@dataclass(frozen=True)
class Cost:
    """What a part of a model weighs, and does for one sample.

    Args:
        parameters: of the part.
        macs: multiply-adds of its matrix products.

    Example:
        >>> sum([Cost(1, 10), Cost(2, 20)], Cost())
        Cost(parameters=3, macs=30)
    """

    parameters: int = 0
    macs: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.macs + other.macs)

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters - other.parameters, self.macs - other.macs)

    def is_within(self, budget: "Cost") -> bool:
        """Tell whether neither is more than in ``budget``.

        Example:
            >>> Cost(1, 30).is_within(Cost(2, 20))
            False
        """
        return self.parameters <= budget.parameters and self.macs <= budget.macs


def block_cost(sizes: Sizes, layer: int, kind: str, units: int | None, tokens: int) -> Cost:
    """Return the cost of one block with so many units left, of whatever units: heads are alike, and so are neurons.

    Args:
        sizes: of the model, by :func:`axformer_lightning.costs.sizes_of`.
        layer: index of the layer. One that several applications share has its parameters once, its work in each.
        kind: ``"attention"`` or ``"feed_forward"``.
        units: heads or neurons that are left; 0 for a block that is kept without any, of which a bias stays; None for
            a block that is removed.
        tokens: of the sample; ignored by a model of images.

    Raises:
        ValueError: if there is no such kind, or a block has not so many units.

    Example:
        >>> from axformer_lightning.costs import sizes_of
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> sizes = sizes_of(BertModel(config))
        >>> [block_cost(sizes, 0, "attention", heads, tokens=10) for heads in (4, 2)]
        [Cost(parameters=288, macs=4160), Cost(parameters=148, macs=2080)]
        >>> [block_cost(sizes, 0, "attention", heads, tokens=10).parameters for heads in (0, None)]
        [8, 0]
    """
    block = sizes.anatomy.block(kind)
    if units is not None and not 0 <= units <= block.num_units:
        raise ValueError(f"Expected 0 to {block.num_units} units of {kind}, or None for no block at all, got {units}.")
    size = sizes.layers[layer]
    macs = block_macs(sizes.anatomy, block, units or 0, sizes.image_tokens or tokens, sizes.hidden)
    return Cost(size.blocks[kind].parameters(units), size.applications * macs)


def cost_of_layers(sizes: Sizes, layers: Sequence[LayerPlan], tokens: int) -> Cost:
    """Return the cost of what ``layers`` leave of the encoder; hard attention computes the same products as soft.

    Its parameters are those that :func:`count_encoder_parameters` counts in the cut model. With
    :func:`rest_cost` added, its multiply-adds are those of :func:`macs_per_sample`.

    Args:
        sizes: of the model, by :func:`axformer_lightning.costs.sizes_of`.
        layers: what is left of each layer, in indices of the original model.
        tokens: of the sample; ignored by a model of images.

    Raises:
        ValueError: if ``layers`` has not one entry per layer.

    Example:
        >>> from axformer_lightning.costs import sizes_of
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> sizes = sizes_of(BertModel(config))
        >>> cost_of_layers(sizes, [LayerPlan()], tokens=10), cost_of_layers(sizes, [LayerPlan("removed")], tokens=10)
        (Cost(parameters=600, macs=6720), Cost(parameters=312, macs=2560))
    """
    if len(layers) != len(sizes.layers):
        raise ValueError(f"Expected one LayerPlan for each of {len(sizes.layers)} layers, got {len(layers)}.")
    cost = Cost(parameters=sum(size.others for size in sizes.layers))
    for i, layer in enumerate(layers):
        for block in sizes.anatomy.blocks:
            left = block.left(layer)
            cost += block_cost(sizes, i, block.kind, None if left is None else len(left), tokens)
    return cost


def encoder_parameters(anatomy: Anatomy, sizes: Sequence[LayerSize], layers: Sequence[LayerPlan]) -> int:
    """Return the parameters of what ``layers`` leave of the encoder.

    Args:
        anatomy: the model's parts.
        sizes: of its layers, by :func:`axformer_lightning.costs.layer_sizes`.
        layers: what is left of each.

    Example:
        >>> from axformer_lightning.anatomy import anatomy_of
        >>> from axformer_lightning.costs import layer_sizes
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> model = BertModel(config)
        >>> encoder_parameters(anatomy_of(model), layer_sizes(model), [LayerPlan("removed")])
        312
    """
    left = (
        (size, block, block.left(layer)) for size, layer in zip(sizes, layers, strict=True) for block in anatomy.blocks
    )
    blocks = sum(
        size.blocks[block.kind].parameters(None if units is None else len(units)) for size, block, units in left
    )
    return blocks + sum(size.others for size in sizes)


def rest_cost(model: PreTrainedModel, sizes: Sizes, tokens: int) -> Cost:
    """Return the cost of all that no plan changes: embeddings, pooler, head. The model runs once.

    Args:
        model: of these sizes, cut or not; not one that skips what a head on the first token has no use for.
        sizes: of the model, by :func:`axformer_lightning.costs.sizes_of`.
        tokens: of the sample; ignored by a model of images.

    Raises:
        ValueError: if the model cannot read so many tokens, or computes some of them only.

    Example:
        >>> from axformer_lightning.costs import sizes_of
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=4)
        >>> model = BertModel(config)  # its pooler is 8 * 8 + 8
        >>> rest_cost(model, sizes_of(model), tokens=10)
        Cost(parameters=4240, macs=64)
    """
    check_computes_all(model)
    macs = macs_per_sample(model, tokens) - cost_of_layers(sizes, layers_left(model), tokens).macs
    return Cost(sizes.rest, macs)


def file_bytes(sizes: Sizes, layers: Sequence[LayerPlan], dtype: torch.dtype = torch.float32) -> int:
    """Return the bytes of all weights of a cut model, embeddings included: its file but for the header.

    Args:
        sizes: of the model, by :func:`axformer_lightning.costs.sizes_of`.
        layers: what is left of each layer.
        dtype: of all weights in the file that are not in int8.

    Raises:
        ValueError: if ``layers`` has not one entry per layer.

    Example:
        >>> from axformer_lightning.costs import sizes_of
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=4)
        >>> file_bytes(sizes_of(BertModel(config)), [LayerPlan("removed", (), "removed")], torch.bfloat16)
        8544
    """
    plain = (sizes.rest + _encoder_parameters(sizes, layers)) * dtype.itemsize
    return plain - sum(_saved_by_int8(sizes, i, layer, dtype.itemsize) for i, layer in enumerate(layers))


def _saved_by_int8(sizes: Sizes, i: int, layer: LayerPlan, itemsize: int) -> int:
    saved = 0
    for block in sizes.anatomy.blocks:
        if block.kind in layer.int8:
            saved += sizes.layers[i].blocks[block.kind].saved_by_int8(len(block.left(layer) or ()), itemsize)
    if WORD_EMBEDDINGS in layer.int8:
        rows, columns = sizes.words
        saved += rows * (columns * (itemsize - 1) - STEP_BYTES)
    return saved


def encoder_size_ratio(sizes: Sizes, layers: Sequence[LayerPlan]) -> float:
    """Return the share of the encoder's parameters that ``layers`` leave, 1 for the dense model.

    Raises:
        ValueError: if ``layers`` has not one entry per layer.

    Example:
        >>> from axformer_lightning.costs import sizes_of
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> encoder_size_ratio(sizes_of(BertModel(config)), [LayerPlan("removed")])  # 312 of 600
        0.52
    """
    return _encoder_parameters(sizes, layers) / _encoder_parameters(sizes, sizes.anatomy.dense_layers())


def file_size_ratio(sizes: Sizes, layers: Sequence[LayerPlan]) -> float:
    """Return the share of the file's bytes that ``layers`` leave, 1 for the dense model; embeddings stay as they are.

    Raises:
        ValueError: if ``layers`` has not one entry per layer.

    Example:
        >>> from axformer_lightning.costs import sizes_of
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=4)
        >>> round(file_size_ratio(sizes_of(BertModel(config)), [LayerPlan("removed")]), 3)  # 54384 of 54672
        0.995
    """
    return file_bytes(sizes, layers) / file_bytes(sizes, sizes.anatomy.dense_layers())


def _encoder_parameters(sizes: Sizes, layers: Sequence[LayerPlan]) -> int:
    return encoder_parameters(sizes.anatomy, sizes.layers, layers)
