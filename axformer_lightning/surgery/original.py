"""The layers of a model as they were before any cut, without their weights: an older checkpoint may need them."""

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import ORIGINAL, anatomy_of, layer_modules


def remember_layers(model: PreTrainedModel) -> None:
    """Keep an empty copy of every layer with ``model``, unless that has been done.

    The copies are no submodules, so `state_dict`, `to` and `parameters` know nothing of them. Their parameters are on
    the meta device and take no memory.
    """
    if ORIGINAL not in vars(model):
        setattr(model, ORIGINAL, tuple(_empty_copy(layer, model) for layer in layer_modules(model)))


def restore_layers_(model: PreTrainedModel) -> None:
    """Undo every cut of ``model`` but for the weights, which have to be loaded afterwards; hard attention is off.

    Raises:
        ValueError: if the model remembers no layers.
    """
    empty = getattr(model, ORIGINAL, None)
    if empty is None:
        raise ValueError(
            f"Expected a {type(model).__name__} that was cut by `apply_plan_`, got one that remembers no layers. Make"
            " the model anew."
        )
    for name, now, layer in zip(anatomy_of(model).layers, layer_modules(model), empty, strict=True):
        restored = copy.deepcopy(layer, {id(model.config): model.config})
        for module in restored.modules():
            for own, parameter in module.named_parameters(recurse=False):
                dtype = model.dtype if parameter.is_floating_point() else parameter.dtype
                values = torch.empty_like(parameter, device=model.device, dtype=dtype)
                setattr(module, own, nn.Parameter(values, requires_grad=parameter.requires_grad))
        model.set_submodule(name, restored.to(model.device).train(now.training))
    model.axformer_plan = None  # type: ignore[assignment]


def _empty_copy(layer: nn.Module, model: PreTrainedModel) -> nn.Module:
    """Copy a layer with its hooks and buffers, but with parameters on the meta device and the config of ``model``."""
    memo: dict[int, object] = {id(model.config): model.config}
    for parameter in layer.parameters():
        empty = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
        memo[id(parameter)] = empty
    return copy.deepcopy(layer, memo)
