"""A plan's costs by formula are those of the model that is cut by it."""

import copy
import dataclasses
import functools
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions as Output

from axformer_lightning import Plan, apply_plan_, save_pretrained
from axformer_lightning.anatomy import BERT, FAMILIES, HardAttention, LayerPlan, anatomy_of, layers_left
from axformer_lightning.costs import (
    Cost,
    block_cost,
    cost_of_layers,
    count_encoder_parameters,
    count_parameters,
    encoder_size_ratio,
    file_bytes,
    file_size_ratio,
    macs_per_sample,
    rest_cost,
    sizes_of,
)
from axformer_lightning.first_token import set_first_token_
from tests.models import make_model

HEADS, NEURONS, LENGTH = 4, 48, 11
VARIANTS = {
    **{name: (name, {}) for name in FAMILIES},
    "albert, one layer for all": ("albert", {"num_hidden_layers": 4, "num_hidden_groups": 1}),
    "albert, layers applied unequally often": ("albert", {"num_hidden_layers": 5, "num_hidden_groups": 2}),
    "albert, two layers in a group": ("albert", {"num_hidden_layers": 2, "num_hidden_groups": 1, "inner_group_num": 2}),
    "deberta-v2, shared projections and a convolution": ("deberta-v2", {"share_att_key": True, "conv_kernel_size": 3}),
    "deberta-v2, one direction": ("deberta-v2", {"pos_att_type": ["c2p"]}),
    "deberta-v2, absolute positions": ("deberta-v2", {"relative_attention": False}),
    "modernbert, no biases": ("modernbert", {"attention_bias": False, "mlp_bias": False, "norm_bias": False}),
}


@functools.cache
def dense(variant):
    family, config = VARIANTS[variant]
    model = make_model(family, **config)
    sizes = sizes_of(model)
    return model, sizes, rest_cost(model, sizes, LENGTH)


def cut(model, layers):
    plan = dataclasses.replace(Plan.dense(anatomy_of(model)), layers=tuple(layers))
    return apply_plan_(copy.deepcopy(model), plan)


def ranges_of(gone):
    layer = LayerPlan()
    for neuron in gone:
        layer = layer.without_neurons(neuron, neuron + 1)
    return layer.neurons_removed


def with_left(heads, neurons):
    layer = LayerPlan(
        heads_removed=tuple(range(heads or 0, HEADS)), neurons_removed=ranges_of(range(neurons or 0, NEURONS))
    )
    layer = layer.without_attention() if heads is None else layer
    return layer.without_feed_forward() if neurons is None else layer


ATTENTION = st.one_of(
    st.just({"attention": "removed"}),
    st.sets(st.integers(0, HEADS - 1)).map(lambda gone: {"heads_removed": tuple(sorted(gone))}),
    st.just({"heads_removed": tuple(range(HEADS))}),
)
FEED_FORWARD = st.one_of(
    st.just({"feed_forward": "removed"}),
    st.sets(st.integers(0, NEURONS - 1)).map(lambda gone: {"neurons_removed": ranges_of(gone)}),
    st.just({"neurons_removed": ((0, NEURONS),)}),
)
HARD = st.sampled_from([None, HardAttention(3)])
LAYERS = st.builds(lambda a, f, hard: LayerPlan(**a, **f, hard_attention=hard), ATTENTION, FEED_FORWARD, HARD)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=4)
@given(data=st.data())
def test_the_formula_counts_what_the_cut_model_counts(variant, data):
    model, sizes, rest = dense(variant)
    layers = data.draw(st.tuples(*[LAYERS] * len(sizes.layers)))
    smaller = cut(model, layers)
    cost = cost_of_layers(sizes, layers, LENGTH)
    assert cost.parameters == count_encoder_parameters(smaller)
    assert (cost + rest).parameters == count_parameters(smaller)
    assert (cost + rest).macs == macs_per_sample(smaller, LENGTH)
    assert sizes_of(smaller) == sizes


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_not_cut_is_what_a_model_without_blocks_counts(variant):
    model, sizes, rest = dense(variant)
    nothing = [LayerPlan("removed", (), "removed")] * len(sizes.layers)
    smaller = cut(model, nothing)
    cost = cost_of_layers(sizes, nothing, LENGTH)
    assert cost == Cost(count_encoder_parameters(smaller), 0)
    assert rest == Cost(count_parameters(smaller) - cost.parameters, macs_per_sample(smaller, LENGTH))
    assert rest_cost(smaller, sizes, LENGTH) == rest
    assert sizes_of(smaller) == sizes


def test_what_goes_with_the_last_head_is_counted_until_then(tiny, monkeypatch):
    monkeypatch.setitem(FAMILIES, "bert", dataclasses.replace(BERT, without_heads=("attention.self",)))
    model = tiny.model("bert")
    for layer in model.bert.encoder.layer:
        layer.attention.self.scale = nn.Parameter(torch.ones(5))
    sizes = sizes_of(model)
    layers = [LayerPlan(heads_removed=(0, 1, 2, 3)), LayerPlan(heads_removed=(0, 1, 2)), LayerPlan("removed")]
    assert cost_of_layers(sizes, layers, LENGTH).parameters == count_encoder_parameters(cut(model, layers))


def test_reading_sizes_leaves_the_model_as_it_was(tiny, state):
    model = tiny.model("bert").train()
    model.bert.encoder.layer[1].eval()
    before = state(model)
    sizes_of(model)
    assert state(model) == before


def test_a_layer_that_forward_leaves_out_costs_no_operations(tiny, monkeypatch):
    model = tiny.model("bert")
    whole, encoder = sizes_of(model), model.bert.encoder
    monkeypatch.setattr(encoder, "forward", lambda x, *_, **__: Output(encoder.layer[1](x)))
    sizes = sizes_of(model)
    assert sizes == replace(
        whole, layers=tuple(replace(size, applications=int(i == 1)) for i, size in enumerate(whole.layers))
    )


@pytest.mark.parametrize("variant", ["bert", "albert, one layer for all", "deberta-v2", "modernbert"])
def test_blocks_are_additive(variant):
    """What a table for dynamic programming relies on."""
    _, sizes, _ = dense(variant)
    draw = random.Random(0)
    widths = [(draw.choice([None, *range(HEADS + 1)]), draw.choice([None, 0, 7, NEURONS])) for _ in sizes.layers]
    layers = [with_left(heads, neurons) for heads, neurons in widths]
    blocks = [
        block_cost(sizes, i, kind, units, LENGTH)
        for i, pair in enumerate(widths)
        for kind, units in zip(("attention", "feed_forward"), pair, strict=True)
    ]
    others = Cost(parameters=sum(layer.others for layer in sizes.layers))
    assert cost_of_layers(sizes, layers, LENGTH) == sum(blocks, others)


def test_images_have_the_tokens_that_they_have():
    model, sizes, _ = dense("vit")
    assert sizes.image_tokens == 17
    assert cost_of_layers(sizes, layers_left(model), 3) == cost_of_layers(sizes, layers_left(model), 300)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", ["bert", "electra", "deberta-v2", "modernbert", "albert", "vit"])
def test_the_file_has_the_bytes_of_the_formula(tmp_path, variant, dtype):
    model, sizes, _ = dense(variant)
    layers = [LayerPlan("removed", (), "kept", ((5, 9),)), LayerPlan(heads_removed=(1,)), LayerPlan()]
    for name, plan in (("dense", layers_left(model)), ("cut", layers)):
        save_pretrained(cut(model, plan).to(dtype), tmp_path / name)
        path = tmp_path / name / "model.safetensors"
        header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
        assert path.stat().st_size - header == file_bytes(sizes, plan, dtype)
        with safe_open(path, "pt") as file:
            assert {file.get_tensor(key).dtype for key in file.keys()} == {dtype}  # noqa: SIM118


@pytest.mark.parametrize("variant", ["bert", "electra", "deberta-v2", "modernbert", "albert", "vit"])
def test_the_file_of_a_model_in_int8_has_the_bytes_of_the_formula(tmp_path, variant):
    model, sizes, _ = dense(variant)
    words = () if variant == "vit" else ("embeddings",)
    layers = [
        LayerPlan("removed", (), "kept", ((5, 9),), int8=(*words, "feed_forward")),
        LayerPlan(heads_removed=(1,), int8=("attention",)),
        LayerPlan("kept", (0, 1, 2, 3), int8=("attention", "feed_forward")),
    ]
    save_pretrained(cut(model, layers), tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    assert len(content) - header == file_bytes(sizes, layers)
    assert file_bytes(sizes, layers) < file_bytes(sizes, [replace(layer, int8=()) for layer in layers])


def test_ratios_compare_with_the_dense_model():
    model, sizes, _ = dense("bert")
    layers = [LayerPlan("removed"), LayerPlan(heads_removed=(1,)), LayerPlan()]
    smaller = cut(model, layers)
    assert encoder_size_ratio(sizes, layers) == count_encoder_parameters(smaller) / count_encoder_parameters(model)
    assert file_size_ratio(sizes, layers) == count_parameters(smaller) / count_parameters(model)
    assert encoder_size_ratio(sizes, layers_left(model)) == file_size_ratio(sizes, layers_left(model)) == 1


def test_a_budget_bounds_both_numbers():
    assert Cost(2, 3).is_within(Cost(2, 3))
    assert not Cost(2, 4).is_within(Cost(2, 3))
    assert not Cost(3, 0).is_within(Cost(2, 3))
    assert Cost(3, 5) - Cost(1, 2) == Cost(2, 3)


def test_what_a_model_has_not_is_named():
    _, sizes, _ = dense("bert")
    with pytest.raises(ValueError, match="Expected one LayerPlan for each of 3 layers, got 2"):
        cost_of_layers(sizes, [LayerPlan()] * 2, LENGTH)
    with pytest.raises(ValueError, match=r"Expected 0 to 4 units of attention, or None .*, got 5"):
        block_cost(sizes, 0, "attention", 5, LENGTH)
    with pytest.raises(ValueError, match=r"kinds \['attention', 'feed_forward'\], got 'head'"):
        block_cost(sizes, 0, "head", 1, LENGTH)


def test_a_model_that_skips_tokens_is_refused(tiny):
    model = tiny.model("bert")
    set_first_token_(model)
    with pytest.raises(ValueError, match=r"a model that computes every token, got one .*first_token_only=False"):
        rest_cost(model, sizes_of(model), LENGTH)


def test_sizes_hold_no_modules():
    def values(item):
        if dataclasses.is_dataclass(item):
            return [value for field in dataclasses.fields(item) for value in values(getattr(item, field.name))]
        if isinstance(item, tuple):
            return [value for part in item for value in values(part)]
        return [item]

    assert not any(isinstance(value, torch.Tensor | nn.Module) for value in values(dense("bert")[1]))
