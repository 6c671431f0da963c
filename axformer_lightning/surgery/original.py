"""The layers of a model as they were before any cut, without their weights: an older checkpoint may need them."""

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import ORIGINAL, anatomy_of, layer_modules
from axformer_lightning.int8 import set_int8_

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")  # of a torch module


def remember_layers(model: PreTrainedModel) -> None:
    """Keep an empty copy of every layer with ``model``, unless that has been done.

    The copies are no submodules, so `state_dict`, `to` and `parameters` know nothing of them. Their parameters are on
    the meta device and take no memory.
    """
    if ORIGINAL not in vars(model):
        setattr(model, ORIGINAL, tuple(_empty_copy(layer, model) for layer in layer_modules(model)))


def restore_layers_(model: PreTrainedModel) -> None:
    """Undo every cut of ``model`` but for the weights, which have to be loaded afterwards; nothing is hard or in int8.

    Raises:
        ValueError: if the model remembers no layers.
    """
    empty = getattr(model, ORIGINAL, None)
    if empty is None:
        raise ValueError(
            f"Expected a {type(model).__name__} that was cut by `apply_plan_`, got one that remembers no layers. Make"
            " the model anew."
        )
    set_int8_(model, anatomy_of(model).dense_layers())  # the embeddings are in no layer
    for name, now, layer in zip(anatomy_of(model).layers, layer_modules(model), empty, strict=True):
        restored = copy.deepcopy(layer, _not_copied(layer, model))
        learns = {own: parameter.requires_grad for own, parameter in now.named_parameters()}  # maybe frozen since
        for path, module in restored.named_modules():
            for own, parameter in module.named_parameters(recurse=False):
                dtype = model.dtype if parameter.is_floating_point() else parameter.dtype
                values = torch.empty_like(parameter, device=model.device, dtype=dtype)
                requires_grad = learns.get(f"{path}.{own}".removeprefix("."), parameter.requires_grad)
                setattr(module, own, nn.Parameter(values, requires_grad=requires_grad))
        model.set_submodule(name, restored.to(model.device).train(now.training))
    model.axformer_plan = None  # type: ignore[assignment]


def _empty_copy(layer: nn.Module, model: PreTrainedModel) -> nn.Module:
    """Copy a layer with its hooks and buffers, but with parameters on the meta device."""
    memo = _not_copied(layer, model)
    for parameter in layer.parameters():
        empty = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
        memo[id(parameter)] = empty
    return copy.deepcopy(layer, memo)


def _not_copied(layer: nn.Module, model: PreTrainedModel) -> dict[int, object]:
    """Return what a copy of a layer shares with it: the config of ``model``, and hooks that belong to something else.

    A hook that is a method of a user's module would bring a copy of all of that module along.
    """
    shared: dict[int, object] = {id(model.config): model.config}
    parts = {id(part) for part in layer.modules()}
    for hook in (hook for part in layer.modules() for name in HOOKS for hook in getattr(part, name).values()):
        owner = getattr(getattr(hook, "func", hook), "__self__", None)  # of a method, maybe with some arguments
        if id(owner) not in parts:
            shared[id(hook)] = hook
    return shared
