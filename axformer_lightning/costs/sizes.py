"""What the parts of one model weigh, read from it once: names and numbers, no modules."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, Block, anatomy_of, layer_modules, original_layers
from axformer_lightning.basics import eval_mode, first_tensor
from axformer_lightning.costs.measured import count_encoder_parameters, count_parameters, uniform_batch

STEP_BYTES = 4  # of the step of a row in int8, a float32


@dataclass(frozen=True)
class BlockSize:
    """Parameters of one block of one layer.

    Args:
        per_unit: of a head or neuron, in all linear layers of the block.
        fixed: of the block while any unit is left: the bias of its out-projection, and a norm that goes with it.
        without_units: what of ``fixed`` stays where the block is kept without a unit.
        weights_per_unit: those of ``per_unit`` that are entries of matrices, and so may be in int8.
        rows_per_unit: rows of in-projections that a unit has, each of which has a step of its own in int8.
        rows: of the out-projection.
    """

    per_unit: int
    fixed: int
    without_units: int
    weights_per_unit: int = field(default=0, repr=False)
    rows_per_unit: int = field(default=0, repr=False)
    rows: int = field(default=0, repr=False)

    def parameters(self, units: int | None) -> int:
        """Return the parameters of the block with so many units; None stands for a block that is removed.

        Example:
            >>> [BlockSize(per_unit=17, fixed=8, without_units=8).parameters(units) for units in (16, 1, 0, None)]
            [280, 25, 8, 0]
        """
        if units is None:
            return 0
        return self.fixed + self.per_unit * units if units else self.without_units

    def saved_by_int8(self, units: int, itemsize: int) -> int:
        """Return how many bytes less the block takes in int8, with one of ``itemsize`` and steps in float32.

        Example:
            >>> BlockSize(17, 8, 8, weights_per_unit=16, rows_per_unit=1, rows=8).saved_by_int8(16, itemsize=4)
            672
        """
        rows = self.rows_per_unit * units + self.rows
        return self.weights_per_unit * units * (itemsize - 1) - rows * STEP_BYTES if units else 0


@dataclass(frozen=True)
class LayerSize:
    """One layer before any cut.

    Args:
        blocks: the parameters of its blocks, by kind.
        others: parameters that no cut removes: norms, and whatever else the layer holds.
        applications: how often one pass of the model runs the layer.
    """

    blocks: Mapping[str, BlockSize] = field(hash=False)
    others: int
    applications: int = 1


@dataclass(frozen=True)
class Sizes:
    """All that the cost of a plan depends on.

    Args:
        anatomy: names and numbers of the model before any cut.
        hidden: features of a token between the layers.
        layers: of each layer.
        rest: parameters outside the layers: embeddings, pooler, head.
        image_tokens: tokens of every sample in a model of images; None where samples differ in length.
        words: rows and columns of the embeddings of words; none in a model of images.
    """

    anatomy: Anatomy
    hidden: int
    layers: tuple[LayerSize, ...]
    rest: int
    image_tokens: int | None = None
    words: tuple[int, int] = (0, 0)


def sizes_of(model: PreTrainedModel) -> Sizes:
    """Return the sizes of ``model`` as it was before any cut; a cut model has the same.

    The model runs once, with a sample of one token, to see how often each layer is applied.

    Args:
        model: a model of a known family, cut or not.

    Raises:
        ValueError: if the family is unknown.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> sizes_of(BertModel(config, add_pooling_layer=False)).layers[0].blocks["feed_forward"]
        BlockSize(per_unit=17, fixed=8, without_units=8)
    """
    anatomy = anatomy_of(model)
    inputs = _inputs_of_layers(model)
    *_, tokens, hidden = next(shapes[0] for shapes in inputs if shapes)  # a forward may leave layers out
    words = model.get_input_embeddings()
    return Sizes(
        anatomy=anatomy,
        hidden=hidden,
        layers=tuple(
            replace(size, applications=len(shapes)) for size, shapes in zip(layer_sizes(model), inputs, strict=True)
        ),
        rest=count_parameters(model) - count_encoder_parameters(model),
        image_tokens=tokens if model.main_input_name == "pixel_values" else None,
        words=(words.num_embeddings, words.embedding_dim) if isinstance(words, nn.Embedding) else (0, 0),
    )


def layer_sizes(model: PreTrainedModel) -> tuple[LayerSize, ...]:
    """Return what each layer weighed before any cut, without running the model: each counts as applied once.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> layer_sizes(BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4)))[0].others
        32
    """
    anatomy = anatomy_of(model)
    return tuple(_layer_size(anatomy, layer) for layer in original_layers(model))


def _inputs_of_layers(model: PreTrainedModel) -> list[list[torch.Size]]:
    """Return the shapes of what each layer is given in one pass."""
    shapes: list[list[torch.Size]] = [[] for _ in layer_modules(model)]
    with ExitStack() as undo, eval_mode(model), torch.no_grad():
        for layer, own in zip(layer_modules(model), shapes, strict=True):
            undo.callback(layer.register_forward_pre_hook(partial(_note, own), with_kwargs=True).remove)
        model(**uniform_batch(model, 1, 1))
    return shapes


def _note(shapes: list[torch.Size], _: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    shapes.append(first_tensor(*args, **kwargs).shape)


def _layer_size(anatomy: Anatomy, layer: nn.Module) -> LayerSize:
    blocks: dict[str, BlockSize] = {block.kind: _block_size(block, layer) for block in anatomy.blocks}
    in_blocks = sum(blocks[block.kind].parameters(block.num_units) for block in anatomy.blocks)
    return LayerSize(blocks, count_parameters(layer) - in_blocks)


def _block_size(block: Block, layer: nn.Module) -> BlockSize:
    produce = dict(_parameters_in(layer, tuple(block.in_projections)))
    matrices = [parameter for parameter in produce.values() if parameter.dim() == 2]
    weight = f"{block.out_projection}.weight"
    consume = layer.get_parameter(weight)
    cut = {name: parameter.numel() for name, parameter in produce.items()} | {weight: consume.numel()}
    fixed = {
        name: parameter.numel() for name, parameter in _parameters_in(layer, tuple(block.modules)) if name not in cut
    }
    gone = {name for name, _ in _parameters_in(layer, block.without_units)}
    return BlockSize(
        per_unit=sum(cut.values()) // block.num_units,
        fixed=sum(fixed.values()),
        without_units=sum(numel for name, numel in fixed.items() if name not in gone),
        weights_per_unit=sum(matrix.numel() for matrix in (*matrices, consume)) // block.num_units,
        rows_per_unit=sum(len(matrix) for matrix in matrices) // block.num_units,
        rows=len(consume),
    )


def _parameters_in(layer: nn.Module, parts: tuple[str, ...]) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of those modules of a layer that are there, by their names in the layer."""
    for name, parameter in layer.named_parameters():
        if name.startswith(tuple(f"{part}." for part in parts)):
            yield name, parameter
