import copy
from functools import partial
from types import MethodType

import pytest
import torch
from torch import nn

from axformer_lightning.anatomy import ORIGINAL, HardAttention, LayerPlan, anatomy_of, layer_modules, layers_left
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import KEY, apply_plan_, restore_layers_

pytestmark = pytest.mark.one_implementation

FIRST = (
    LayerPlan(heads_removed=(1,)),
    LayerPlan(neurons_removed=((0, 8),)),
    LayerPlan(hard_attention=HardAttention(3)),
)
THEN = (LayerPlan("removed", (), "removed"), LayerPlan("kept", (0, 1, 2, 3), "removed"), LayerPlan("removed"))


@pytest.fixture
def cut(family):
    def apply(model, *steps):
        for layers in steps:
            apply_plan_(model, Plan(family, 3, 4, 48, layers))
        return model

    return apply


@pytest.mark.parametrize("steps", [[FIRST], [THEN], [FIRST, THEN]], ids=["some", "much", "in two steps"])
def test_the_old_weights_fit_a_restored_model(model, batch, logits, cut, steps):
    expected, weights = logits(model, batch), copy.deepcopy(model.state_dict())
    restore_layers_(cut(model, *steps))
    assert layers_left(model) == (LayerPlan(),) * 3
    model.load_state_dict(weights)
    assert torch.equal(logits(model, batch), expected)


def test_a_restored_model_can_be_cut_again(model, batch, logits, cut):
    weights = copy.deepcopy(model.state_dict())
    expected = logits(cut(model, THEN), batch)
    restore_layers_(model)
    model.load_state_dict(weights)
    torch.testing.assert_close(logits(cut(model, THEN), batch), expected)


def test_a_restored_model_is_as_it_was_but_for_the_weights(model, cut, implementation):
    for parameter in layer_modules(model)[0].parameters():
        parameter.requires_grad = False
    model.double().train()
    named = {name: (value.shape, value.dtype, value.requires_grad) for name, value in model.named_parameters()}
    kinds = {name: type(module) for name, module in model.named_modules()}
    restore_layers_(cut(model, THEN))
    assert {name: (v.shape, v.dtype, v.requires_grad) for name, v in model.named_parameters()} == named
    assert {name: type(module) for name, module in model.named_modules()} == kinds
    assert all(module.training for module in model.modules())
    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    assert all(config is model.config for config in configs)


@pytest.mark.one_family
def test_what_is_remembered_takes_no_memory_and_is_not_part_of_the_model(model, cut):
    names = list(model.state_dict())
    cut(model, (LayerPlan(hard_attention=HardAttention(3)),) * 3)
    remembered = getattr(model, ORIGINAL)
    assert all(parameter.is_meta for layer in remembered for parameter in layer.parameters())
    assert list(model.state_dict()) == [*names, KEY]  # the plan travels with the weights
    assert len(remembered) == anatomy_of(model).num_layers


@pytest.mark.one_family
def test_copies_remember_on_their_own(model, batch, logits, cut):
    weights = copy.deepcopy(model.state_dict())
    expected = logits(cut(model, THEN), batch)
    twin = copy.deepcopy(model)
    restore_layers_(twin)
    twin.load_state_dict(weights)
    assert torch.equal(logits(model, batch), expected)
    assert not torch.allclose(logits(twin, batch), expected, atol=1e-3)


@pytest.mark.one_family
def test_a_model_that_was_never_cut_is_refused(model):
    with pytest.raises(ValueError, match="remembers no layers"):
        restore_layers_(model)


@pytest.mark.one_family
def test_what_was_frozen_after_a_cut_stays_frozen_in_a_restored_model(model, cut):
    cut(model, FIRST)
    for parameter in layer_modules(model)[0].parameters():
        parameter.requires_grad = False
    restore_layers_(model)
    learns = [{parameter.requires_grad for parameter in layer.parameters()} for layer in layer_modules(model)]
    assert learns == [{False}, {True}, {True}]


@pytest.mark.one_family
def test_a_restored_model_is_in_floats_everywhere(model, batch, logits, cut):
    weights, expected = copy.deepcopy(model.state_dict()), logits(model, batch)
    restore_layers_(cut(model, (LayerPlan(int8=("embeddings", "attention")), LayerPlan(), LayerPlan("removed"))))
    model.load_state_dict(weights)
    assert torch.equal(logits(model, batch), expected)


class Watching(nn.Module):
    """Watches the layers of a model by methods of its own."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []
        for i, layer in enumerate(layer_modules(model)):
            layer.register_forward_hook(self.see)
            layer.register_forward_pre_hook(partial(self.see, i))

    def see(self, *args):
        self.seen.append(len(args))


@pytest.mark.one_family
def test_hooks_of_the_module_around_stay_its_own_through_a_cut_and_back(model, batch, logits, cut):
    watching, weights = Watching(model), copy.deepcopy(model.state_dict())
    cut(model, THEN)
    hooks = [hook for layer in getattr(model, ORIGINAL) for hook in layer._forward_hooks.values()]
    assert [hook.__self__ for hook in hooks] == [watching] * 3
    restore_layers_(model)
    model.load_state_dict(weights)
    logits(model, batch)
    assert watching.seen == [3, 3] * 3


@pytest.mark.one_family
def test_hooks_of_a_layer_belong_to_the_layer_that_comes_back(model, batch, logits, cut):
    layer, weights = layer_modules(model)[0], copy.deepcopy(model.state_dict())
    layer.calls = []
    layer.note = MethodType(lambda self, *args: self.calls.append(len(args)), layer)
    layer.register_forward_hook(layer.note)
    restore_layers_(cut(model, THEN))
    model.load_state_dict(weights)
    logits(model, batch)
    assert layer.calls == []
    assert layer_modules(model)[0].calls == [3]


@pytest.mark.one_family
@pytest.mark.parametrize(
    ("other", "plan", "named"),
    [
        ({"num_hidden_layers": 2}, Plan("bert", 2, 4, 48, (LayerPlan(heads_removed=(2,)),) * 2), "num_layers 3"),
        ({"intermediate_size": 40}, Plan("bert", 3, 4, 40, (LayerPlan(heads_removed=(2,)),) * 3), "size 48"),
        ({}, Plan("bert", 3, 4, 48, (LayerPlan(int8=("attention",)),) * 3), "float32"),
    ],
    ids=["layers", "neurons", "int8"],
)
def test_weights_of_another_model_leave_a_cut_model_as_it_was(tiny, state, cut, other, plan, named):
    weights = apply_plan_(tiny.model("bert", **other), plan).state_dict()
    model = cut(tiny.model("bert").double(), THEN)
    before = state(model)
    with pytest.raises(ValueError, match=named):
        model.load_state_dict(weights)
    assert state(model) == before
    assert model.axformer_plan.layers == THEN
