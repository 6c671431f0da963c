import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from axformer_lightning.anatomy import HardAttention, LayerPlan, layer_modules
from axformer_lightning.gates import Removed
from axformer_lightning.plan import Plan
from axformer_lightning.search import find_plan
from axformer_lightning.surgery import apply_plan_, cut_, keep

pytestmark = pytest.mark.one_implementation

SEPARATE = ["bert", "distilbert", "mpnet", "albert"]  # query, key, value and one linear layer before neurons
READERS_AND_WRITER = 3 * (32 * 32 + 32) + 32 * 32 + 32
ONE_HEAD = 3 * (8 * 32 + 8) + 32 * 8
ONE_NEURON = 32 + 1 + 32
FEED_FORWARD = 2 * 32 * 48 + 48 + 32
DENSE = LayerPlan()
FIRST = (
    LayerPlan("kept", (2,), "kept", ((8, 12),)),
    LayerPlan("kept", (0,), "kept", ((0, 24),)),
    LayerPlan(heads_removed=(1,)),
)
THEN = (
    LayerPlan("kept", (0, 2), "kept", ((4, 20), (47, 48)), HardAttention(3)),
    LayerPlan("removed", (), "kept", ((0, 48),)),
    LayerPlan("kept", (0, 1, 2, 3), "removed", (), HardAttention(2, True)),
)
BEFORE = (  # a part of what THEN removes
    LayerPlan("kept", (2,), "kept", ((8, 12), (47, 48)), HardAttention(9)),
    LayerPlan("kept", (0, 3), "kept", ((0, 24),)),
    LayerPlan("kept", (1,), "kept", ((5, 6),)),
)


class Lora(nn.Module):
    """What PEFT puts in the place of a linear layer."""

    def __init__(self, linear):
        super().__init__()
        self.base_layer = linear
        self.lora_A = nn.Linear(linear.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, linear.out_features, bias=False)

    @property
    def weight(self):
        return self.base_layer.weight

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


class Scaled(nn.Linear):
    """A linear layer of another kind."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features)

    def forward(self, x):
        return super().forward(x) / 2


class Packed(nn.Module):
    """A quantized layer, whose weights are no parameters."""

    def __init__(self, linear):
        super().__init__()
        self.register_buffer("packed", linear.weight.detach().half())

    def forward(self, x):
        return x @ self.packed.float().T


@pytest.fixture
def plan(family):
    """Makes a plan of three layers for the family at hand."""
    return lambda *layers: Plan(family, 3, 4, 48, (*layers, *(DENSE,) * (3 - len(layers))))


@pytest.fixture
def linear_names(names):
    return [*names.readers, names.attention, names.first, names.feed_forward]


def num_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def shapes(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("family", SEPARATE, indirect=True)
@pytest.mark.parametrize(
    ("layers", "fewer"),
    [
        ([DENSE], 0),
        ([LayerPlan(hard_attention=HardAttention(3))], 0),
        ([LayerPlan(heads_removed=(1,))], ONE_HEAD),
        ([LayerPlan(heads_removed=(0, 3)), LayerPlan(heads_removed=(2,))], 3 * ONE_HEAD),
        ([LayerPlan(heads_removed=(0, 1, 2, 3))], READERS_AND_WRITER - 32),
        ([LayerPlan("removed")], READERS_AND_WRITER),
        ([DENSE, LayerPlan(neurons_removed=((0, 5), (40, 48)))], 13 * ONE_NEURON),
        ([DENSE, LayerPlan(neurons_removed=((0, 48),))], FEED_FORWARD - 32),
        ([DENSE, LayerPlan(feed_forward="removed")], FEED_FORWARD),
        ([LayerPlan("removed", (), "removed")] * 3, 3 * (READERS_AND_WRITER + FEED_FORWARD)),
    ],
)
def test_parameters_are_fewer_by_exactly_what_was_removed(model, plan, layers, fewer):
    before = num_parameters(model)
    assert before - num_parameters(apply_plan_(model, plan(*layers))) == fewer


@pytest.mark.parametrize("family", SEPARATE, indirect=True)
def test_linear_layers_know_their_new_sizes(model, plan, part, names):
    apply_plan_(model, plan(LayerPlan("kept", (1,), "kept", ((0, 40),))))
    for role, size in (("attention", (24, 32)), ("first", (32, 8)), ("feed_forward", (8, 32))):
        linear = part(model, 0, role)
        assert (linear.in_features, linear.out_features) == size == tuple(reversed(linear.weight.shape))
    for reader in names.readers:
        linear = model.base_model.get_submodule(names.at(0, reader))
        assert (linear.in_features, linear.out_features, *linear.bias.shape) == (32, 24, 24)


@pytest.mark.parametrize("family", SEPARATE, indirect=True)
def test_what_is_not_in_the_plan_is_the_same_parameter_as_before(model, plan, names):
    before = dict(model.named_parameters())
    apply_plan_(model, plan(LayerPlan("kept", (1,), "removed")))
    touched = {name for name, value in model.named_parameters() if value is not before[name]}
    linears = [f"{model.base_model_prefix}.{names.at(0, linear)}" for linear in (*names.readers, names.attention)]
    assert touched == {*(f"{name}.weight" for name in linears), *(f"{name}.bias" for name in linears[:3])}


def test_two_cuts_equal_one(model, plan, batch, logits):
    at_once = apply_plan_(copy.deepcopy(model), plan(*THEN))
    in_two = apply_plan_(apply_plan_(model, plan(*BEFORE)), plan(*THEN))
    assert shapes(in_two) == shapes(at_once)
    assert all(torch.equal(value, in_two.state_dict()[name]) for name, value in at_once.state_dict().items())
    assert torch.equal(logits(in_two, batch), logits(at_once, batch))


def test_the_same_plan_twice_changes_nothing_the_second_time(model, plan, state):
    before = state(apply_plan_(model, plan(*FIRST)))
    assert state(apply_plan_(model, plan(*FIRST))) == before


def test_a_later_plan_switches_hard_attention_off_again(model, plan, batch, logits):
    expected = logits(model, batch)
    apply_plan_(model, plan(LayerPlan(hard_attention=HardAttention(2))))
    assert not torch.allclose(logits(model, batch), expected, atol=1e-2)
    assert torch.equal(logits(apply_plan_(model, plan()), batch), expected)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_kept(model, plan, training):
    apply_plan_(model.train(training), plan(*THEN))
    assert {module.training for module in model.modules()} == {training}


def test_what_is_frozen_stays_frozen(model, plan):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("bias" in name)
    apply_plan_(model, plan(*FIRST))
    assert {("bias" in name) == parameter.requires_grad for name, parameter in model.named_parameters()} == {True}


@pytest.mark.parametrize("family", SEPARATE, indirect=True)
def test_gradients_are_cut_with_their_weights(model, plan, batch):
    model(**batch).loss.backward()
    before = {name: (value.detach().clone(), value.grad.clone()) for name, value in model.named_parameters()}
    edits = {edit.old: edit for edit in cut_(model, plan(*FIRST))}
    assert len(edits) == 3 * 7 + 2 * 3
    for name, parameter in model.named_parameters():
        weight, gradient = before[name]
        if weight.shape == parameter.shape:
            assert torch.equal(parameter.grad, gradient)
            continue
        (edit,) = [edit for edit in edits.values() if edit.new is parameter]
        assert torch.equal(edit.old, weight)
        assert torch.equal(parameter, keep(weight, edit.kept))
        assert torch.equal(parameter.grad, keep(gradient, edit.kept))


def test_every_parameter_that_went_is_reported(model, plan):
    before = dict(model.named_parameters())
    edits = cut_(model, plan(*THEN))
    after = dict(model.named_parameters())
    gone = {id(parameter) for name, parameter in before.items() if name not in after}
    assert {id(edit.old) for edit in edits if edit.new is None} == gone
    changed = {id(parameter) for name, parameter in after.items() if parameter is not before[name]}
    assert {id(edit.new) for edit in edits if edit.new is not None} == changed


def test_a_cut_model_learns_every_parameter(model, plan, batch):
    apply_plan_(model, plan(*FIRST)).train()(**batch).loss.backward()
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if "pooler" not in name)


def test_a_model_cut_in_inference_mode_can_still_learn(model, plan, batch):
    with torch.inference_mode():
        apply_plan_(model, plan(*FIRST))
    model(**batch).loss.backward()


def test_a_cut_on_the_meta_device_has_the_shapes_of_a_real_one(model, plan):
    with torch.device("meta"):
        empty = AutoModelForSequenceClassification.from_config(model.config)
    assert shapes(apply_plan_(empty, plan(*THEN))) == shapes(apply_plan_(model, plan(*THEN)))
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}


def test_the_dtype_is_kept(model, plan):
    apply_plan_(model.to(torch.bfloat16), plan(*THEN))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_a_copy_of_a_cut_model_is_independent(model, plan, batch, logits):
    twin = copy.deepcopy(apply_plan_(model, plan(*FIRST)))
    expected = logits(twin, batch)
    apply_plan_(model, plan(LayerPlan("removed", (), "removed"), *FIRST[1:]))
    assert torch.equal(logits(twin, batch), expected)
    assert twin.axformer_plan == plan(*FIRST)


@pytest.mark.one_family
def test_a_module_around_the_model_is_returned_with_the_model_cut(model, plan):
    wrapper = nn.ModuleDict({"anything": model})
    assert apply_plan_(wrapper, plan(*THEN)) is wrapper
    assert model.axformer_plan == plan(*THEN)
    assert any(isinstance(module, Removed) for module in layer_modules(model)[1].modules())


@pytest.mark.one_family
@pytest.mark.parametrize(
    ("field", "other"), [("model_type", "electra"), ("num_layers", 2), ("num_heads", 8), ("intermediate_size", 96)]
)
def test_a_plan_for_another_model_leaves_the_model_as_it_was(model, state, field, other):
    fields = {
        "model_type": model.config.model_type,
        "num_layers": 3,
        "num_heads": 4,
        "intermediate_size": 48,
        field: other,
    }
    layers = (LayerPlan(heads_removed=(0,), hard_attention=HardAttention(2)),) * fields["num_layers"]
    before = state(model)
    with pytest.raises(ValueError, match=f"{field} .*{other}"):
        apply_plan_(model, Plan(**fields, layers=layers))
    assert state(model) == before


@pytest.mark.one_family
@pytest.mark.parametrize(
    ("first", "then", "named"),
    [
        (LayerPlan(heads_removed=(1, 2)), LayerPlan(heads_removed=(2,)), "attention"),
        (LayerPlan(heads_removed=(1,)), LayerPlan(heads_removed=(2,)), "attention"),
        (LayerPlan("removed"), DENSE, "attention"),
        (LayerPlan("removed"), LayerPlan(heads_removed=(0, 1, 2, 3)), "attention"),
        (LayerPlan(neurons_removed=((0, 8),)), LayerPlan(neurons_removed=((1, 9),)), "feed_forward"),
        (LayerPlan(feed_forward="removed"), LayerPlan(neurons_removed=((0, 48),)), "feed_forward"),
    ],
)
def test_a_plan_that_brings_something_back_leaves_the_model_as_it_was(model, plan, state, first, then, named):
    before = state(apply_plan_(model, plan(DENSE, first)))
    with pytest.raises(ValueError, match=rf"layers\[1\] keeps more of its {named} block.*original model"):
        apply_plan_(model, plan(LayerPlan("removed", hard_attention=HardAttention(2)), then))
    assert state(model) == before


@pytest.mark.one_family
def test_hard_attention_without_an_implementation_leaves_the_model_as_it_was(model, plan, state, monkeypatch):
    monkeypatch.setattr(model.config, "_attn_implementation_internal", "flash_attention_2")
    before = state(model)
    with pytest.raises(ValueError, match="flash_attention_2"):
        apply_plan_(model, plan(LayerPlan("kept", (1,), hard_attention=HardAttention(2))))
    assert state(model) == before


UNITS = LayerPlan("kept", (1,), "kept", ((0, 8),), HardAttention(2))


@pytest.mark.one_family
@pytest.mark.parametrize("family", SEPARATE, indirect=True)
@pytest.mark.parametrize("position", range(6))
@pytest.mark.parametrize("wrapper", [Lora, Scaled, Packed])
def test_anything_but_a_plain_linear_layer_is_refused_and_named(
    model, plan, names, linear_names, state, wrapper, position
):
    name = f"{model.base_model_prefix}.{names.at(1, linear_names[position])}"
    model.set_submodule(name, wrapper(model.get_submodule(name)))
    before = state(model)
    with pytest.raises(ValueError, match=f"(?s)Linear at '{name}.*{wrapper.__name__}.*merge_and_unload"):
        apply_plan_(model, plan(DENSE, UNITS, UNITS))
    assert state(model) == before


@pytest.mark.one_family
@pytest.mark.parametrize("change", [nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.weight_norm])
def test_what_undoes_a_parametrization_is_named_and_does(model, plan, part, batch, logits, change):
    linear, expected = part(model, 1, "feed_forward"), logits(model, batch)
    change(linear)
    with pytest.raises(ValueError, match=r"utils\.parametrize\.remove_parametrizations\(layer, \"weight\"\)"):
        find_plan(model, [batch])
    nn.utils.parametrize.remove_parametrizations(linear, "weight")
    assert logits(apply_plan_(model, plan(DENSE, UNITS)), batch).shape == expected.shape


@pytest.mark.one_family
@pytest.mark.parametrize("given", ["plan.json", None, {"layers": []}])
def test_what_is_no_plan_is_refused_and_nothing_changes(model, state, given):
    before = state(model)
    with pytest.raises(TypeError, match=rf"Expected a Plan, got {type(given).__name__}\. `Plan\.load\(path\)`"):
        apply_plan_(model, given)
    assert state(model) == before


@pytest.mark.parametrize("family", SEPARATE, indirect=True)
def test_every_linear_layer_of_a_family_is_looked_at(model, plan, names, linear_names):
    for linear in linear_names:
        name = f"{model.base_model_prefix}.{names.at(1, linear)}"
        plain = model.get_submodule(name)
        model.set_submodule(name, Lora(plain))
        with pytest.raises(ValueError, match=f"Linear at '{name}'"):
            apply_plan_(model, plan(DENSE, UNITS, UNITS))
        model.set_submodule(name, plain)


@pytest.mark.one_family
@pytest.mark.parametrize("layers", [(UNITS,), (DENSE, UNITS), (LayerPlan("removed", (), "removed"),)])
@pytest.mark.parametrize("role", ["attention", "feed_forward"])
def test_weights_that_two_layers_share_are_refused_and_named(model, plan, part, state, layers, role):
    part(model, 0, role).weight = part(model, 1, role).weight
    before = state(model)
    with pytest.raises(ValueError, match=r"shares them with .*Untie"):
        apply_plan_(model, plan(*layers))
    assert state(model) == before


@pytest.mark.one_family
def test_weights_shared_elsewhere_do_not_matter(model, plan, part):
    part(model, 2, "attention").weight = part(model, 1, "attention").weight
    apply_plan_(model, plan(UNITS))


@pytest.mark.parametrize(
    ("kept", "left"),
    [({}, [[1, 2], [3, 4]]), ({0: [1]}, [[3, 4]]), ({0: [1], 1: [1, 0]}, [[4, 3]]), ({1: []}, [[], []])],
)
def test_entries_are_kept_in_the_order_asked_for_and_copied(kept, left):
    value = torch.tensor([[1, 2], [3, 4]])
    found = keep(value, kept)
    assert found.tolist() == left
    assert found.data_ptr() != value.data_ptr()


def test_a_part_of_a_cut_model_is_refused_and_nothing_changes(tiny, state):
    model = tiny.model("bert", "sdpa")
    apply_plan_(model, Plan("bert", 3, 4, 48, (LayerPlan(heads_removed=(0, 1)), LayerPlan(), LayerPlan())))
    before = state(model)
    layers = (LayerPlan(heads_removed=(3,)), LayerPlan("removed"), LayerPlan())
    with pytest.raises(ValueError, match=r"Expected 32 features at '.*layer.0.attention.self.query', got 16"):
        apply_plan_(model.bert, Plan("bert", 3, 4, 48, layers))
    assert state(model) == before


def test_a_plan_whose_model_was_repaired_says_that_it_does_not_repair(tiny, caplog):
    repaired = Plan("bert", 3, 4, 48, (LayerPlan(heads_removed=(0,)), LayerPlan(), LayerPlan()), repaired=True)
    model = apply_plan_(tiny.model("bert", "sdpa"), repaired)
    assert "cut, not repaired. Load the artifact instead" in caplog.text
    caplog.clear()
    apply_plan_(model, repaired)
    assert not caplog.text
