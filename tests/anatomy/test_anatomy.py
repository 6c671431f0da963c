import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
)

from axformer_lightning.anatomy import (
    BERT,
    FAMILIES,
    Family,
    HardAttention,
    LayerPlan,
    anatomy_of,
    find_transformer,
    layer_modules,
    layers_left,
    register_family,
)
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_

pytestmark = pytest.mark.one_implementation

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)).map(lambda pair: (pair[0], sum(pair))), max_size=8)


def holding(**modules):
    return nn.ModuleDict(modules)


def test_the_numbers_are_those_of_the_config(model, family):
    anatomy = anatomy_of(model)
    numbers = (anatomy.model_type, anatomy.num_layers, anatomy.num_heads, anatomy.intermediate_size)
    assert numbers == (family, 3, 4, 48)
    assert anatomy.dense_layers() == (LayerPlan(),) * 3


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForTokenClassification])
def test_every_name_of_every_layer_leads_to_a_module(tiny, family, auto):
    model = tiny.model(family, auto=auto)
    anatomy, row = anatomy_of(model), FAMILIES[family]
    linears = (*row.head_in_projections, row.head_out_projection, *row.neuron_in_projections, row.neuron_out_projection)
    for layer in range(3):
        assert {type(model.get_submodule(anatomy.name(layer, part))) for part in linears} == {nn.Linear}
        for part in (row.self_attention, *row.attention_modules, *row.feed_forward_modules):
            model.get_submodule(anatomy.name(layer, part))


def test_names_lead_to_the_parts_they_are_named_after(model, family, names, part):
    anatomy, row = anatomy_of(model), FAMILIES[family]
    for layer in range(3):
        at = {
            name: model.get_submodule(anatomy.name(layer, getattr(row, name)))
            for name in ("head_out_projection", "neuron_out_projection", "self_attention")
        }
        assert at["head_out_projection"] is part(model, layer, "attention")
        assert at["neuron_out_projection"] is part(model, layer, "feed_forward")
        assert at["self_attention"] is part(model, layer, "self_attention")
    assert row.head_in_projections == names.readers
    assert row.neuron_in_projections == (names.first,)


def test_layers_go_from_input_to_output(model, names):
    expected = [model.base_model.get_submodule(names.layers.format(i)) for i in range(3)]
    assert list(layer_modules(model)) == expected


def test_everything_is_left_until_a_plan_is_applied(model, family):
    assert layers_left(model) == (LayerPlan(),) * 3
    layers = (LayerPlan(heads_removed=(1,)), LayerPlan(), LayerPlan().without_feed_forward())
    apply_plan_(model, Plan(family, 3, 4, 48, layers))
    assert layers_left(model) == layers


def test_a_cut_model_keeps_the_numbers_of_the_original(model, family):
    before = anatomy_of(model)
    apply_plan_(model, Plan(family, 3, 4, 48, (LayerPlan("kept", (0,), "kept", ((0, 8),)),) * 3))
    assert anatomy_of(model) == before


def test_an_unknown_family_is_told_where_its_row_goes():
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=50))
    with pytest.raises(ValueError, match=r"\['albert', .*'gpt2'.*register_family"):
        anatomy_of(model)


@pytest.mark.one_family
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("is_decoder", True),
        ("pruned_heads", {0: [1]}),
        ("chunk_size_feed_forward", 2),
        ("num_key_value_heads", 2),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused(model, field, value):
    setattr(model.config, field, value)
    with pytest.raises(ValueError, match=field):
        anatomy_of(model)


def test_of_two_models_held_together_the_encoder_is_asked_for(tiny):
    parts = {"encoder": tiny.model("bert", auto=AutoModel), "decoder": tiny.model("bert", auto=AutoModelForCausalLM)}
    both = EncoderDecoderModel(**parts)
    with pytest.raises(ValueError, match=r"got a 'encoder-decoder' model, which has a decoder, too\. Name its encoder"):
        anatomy_of(both)
    assert anatomy_of(both.encoder).num_layers == 3


def test_a_registered_family_is_known(tiny, monkeypatch):
    monkeypatch.setattr("axformer_lightning.anatomy.families.FAMILIES", FAMILIES)
    monkeypatch.setitem(FAMILIES, "bert", BERT)
    monkeypatch.delitem(FAMILIES, "bert")
    row = dataclasses.replace(BERT)
    register_family("bert", row)
    assert anatomy_of(tiny.model("bert")).family is row


@pytest.mark.one_family
def test_a_known_family_is_not_registered_twice(family):
    with pytest.raises(ValueError, match=f"no row yet, got '{family}'"):
        register_family(family, BERT)


@pytest.mark.one_family
def test_the_one_model_is_found_wherever_it_is(model):
    assert find_transformer(model) is model
    assert find_transformer(holding(anything=holding(deep=model), head=nn.Linear(2, 2))) is model


def test_no_model_is_an_error():
    with pytest.raises(ValueError, match="Linear to hold a Hugging Face model, found none"):
        find_transformer(nn.Linear(2, 2))


def test_several_models_are_named_and_one_can_be_chosen(tiny):
    both = holding(teacher=tiny.model("bert"), student=tiny.model("distilbert"))
    with pytest.raises(ValueError, match=r"\['teacher', 'student'\].*model=\"teacher\""):
        find_transformer(both)
    assert find_transformer(both, "student") is both["student"]


def test_a_model_whose_name_begins_like_another_s_is_no_part_of_it(tiny):
    both = holding(model=tiny.model("bert"), model_of_before=tiny.model("bert"))
    with pytest.raises(ValueError, match=r"\['model', 'model_of_before'\]"):
        find_transformer(both)


@pytest.mark.one_family
def test_a_name_that_leads_nowhere_or_elsewhere_is_an_error(model):
    module = holding(model=model, head=nn.Linear(2, 2))
    with pytest.raises(ValueError, match="ModuleDict to hold a module named 'nowhere'"):
        find_transformer(module, "nowhere")
    with pytest.raises(TypeError, match="at 'head', got Linear"):
        find_transformer(module, "head")


@pytest.mark.one_family
def test_a_compiled_model_is_found_by_name(model):
    wrapper = nn.Module()
    wrapper._orig_mod = model
    assert find_transformer(holding(model=wrapper), "model") is model


@given(RANGES)
def test_ranges_of_neurons_are_joined_to_ascending_ones_with_gaps(ranges):
    layer = LayerPlan()
    for start, stop in ranges:
        layer = layer.without_neurons(start, stop)
    edges = [edge for pair in layer.neurons_removed for edge in pair]
    assert edges == sorted(set(edges))
    gone = {n for start, stop in ranges for n in range(start, stop)}
    assert layer.kept_neurons(48) == [n for n in range(48) if n not in gone]


@given(st.lists(st.integers(0, 7)))
def test_heads_are_removed_once_and_kept_in_order(heads):
    layer = LayerPlan()
    for head in heads:
        layer = layer.without_head(head)
    assert layer.heads_removed == tuple(sorted(set(heads)))
    assert layer.kept_heads(8) == [head for head in range(8) if head not in heads]


def test_a_removed_block_keeps_no_unit_and_names_none():
    layer = LayerPlan("kept", (1,), "kept", ((2, 4),)).without_attention().without_feed_forward()
    assert layer == LayerPlan("removed", (), "removed", ())
    assert (layer.kept_heads(4), layer.kept_neurons(8)) == ([], [])


@pytest.mark.parametrize("k", [0, -1])
def test_hard_attention_without_keys_is_refused(k):
    with pytest.raises(ValueError, match=f"k >= 1 .*got k={k}.*hard_attention_k=None"):
        HardAttention(k)


def test_a_row_with_the_former_names_of_fields_is_read_with_a_warning():
    fields = dict(vars(BERT))
    fields["head_writer"] = fields.pop("head_out_projection")
    with pytest.warns(DeprecationWarning, match="`head_writer` of a Family is now `head_out_projection`"):
        assert Family(**fields) == BERT
