"""Where the mean of what a removed block gave can be added, so that nothing is computed for it at run time.

It has to be a parameter that shifts what the removed block and its residual path read, and nothing else. Then the next
reader sees ``input + mean``, as it would if the block were replaced by a constant.

- **Post-norm.** The norm in front of the block: for a feed-forward block that of its layer's attention, for an
  attention block that of the layer below, for the first layer's what made its input. Norms stay where blocks go, so
  any number of blocks in a row can be removed.
- **Pre-norm.** The bias of the nearest block before it that is left, as nobody reads the residual stream in between;
  where there is none, what made the first layer's input. A *later* bias will not do: blocks in between would miss it.
- **None** where that parameter is not there (a model without biases) or has other readers: the layer is applied several
  times (ALBERT), or something reads around the layers (DeBERTa's convolution).
"""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, LayerPlan


def place_of_mean(
    model: PreTrainedModel,
    anatomy: Anatomy,
    layers: Sequence[LayerPlan],
    applications: Sequence[int],
    layer: int,
    kind: str,
) -> str | None:
    """Return the name of the parameter to which the mean of a removed block is to be added, or None if there is none.

    Args:
        model: cut or not.
        anatomy: its names.
        layers: what is to be left of each layer.
        applications: how often each layer runs in one call of the model.
        layer: where the removed block is.
        kind: which half of the layer it is.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> from axformer_lightning.anatomy import anatomy_of
        >>> model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=4))
        >>> anatomy = anatomy_of(model)
        >>> [place_of_mean(model, anatomy, anatomy.dense_layers(), (1, 1), i, "attention") for i in range(2)]
        ['embeddings.LayerNorm.bias', 'encoder.layer.0.output.LayerNorm.bias']
    """
    family = anatomy.family
    if family.pre_norm:
        return _before_pre_norm(model, anatomy, layers, layer, kind) if set(applications) == {1} else None
    if family.post_norms is None:
        return None
    after_attention, after_feed_forward = family.post_norms
    if kind == "feed_forward":  # between the halves of a layer there is nobody else, however often it is applied
        return _present(model, f"{anatomy.name(layer, after_attention)}.bias")
    if {*applications[max(0, layer - 1) : layer + 1]} != {1} or _is_read_around(model, anatomy, layer):
        return None
    if layer == 0:
        return _input_of_first_layer(model, anatomy)
    return _present(model, f"{anatomy.name(layer - 1, after_feed_forward)}.bias")


def _before_pre_norm(
    model: PreTrainedModel, anatomy: Anatomy, layers: Sequence[LayerPlan], layer: int, kind: str
) -> str | None:
    blocks = [(i, block) for i in range(layer + 1) for block in anatomy.blocks]
    place = next(at for at, (i, block) in enumerate(blocks) if (i, block.kind) == (layer, kind))
    for i, block in reversed(blocks[:place]):
        if block.left(layers[i]) is not None:
            return _present(model, f"{anatomy.name(i, block.out_projection)}.bias")
    return _input_of_first_layer(model, anatomy)


def _input_of_first_layer(model: PreTrainedModel, anatomy: Anatomy) -> str | None:
    prefix = model.base_model_prefix
    inside = f"{prefix}." if hasattr(model, prefix) else ""
    found = (_present(model, inside + name) for name in anatomy.family.shifts_input)
    return next((name for name in found if name), None)


def _is_read_around(model: PreTrainedModel, anatomy: Anatomy, layer: int) -> bool:
    around = anatomy.family.reads_around
    return around is not None and layer < 2 and around in dict(model.base_model.named_modules())


def _present(model: nn.Module, name: str) -> str | None:
    """Return ``name`` if that parameter is there and belongs to one module only."""
    named = dict(model.named_parameters(remove_duplicate=False))
    holders = [other for other, parameter in named.items() if parameter is named.get(name)]
    return name if holders == [name] else None
