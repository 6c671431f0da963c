"""Every family of the table, and the configurations of it that are built differently: what the rooms promise."""

import dataclasses

import pytest
import torch
from transformers import EuroBertConfig, EuroBertForSequenceClassification

from axformer_lightning import find_plan, load_pretrained, save_pretrained
from axformer_lightning.anatomy import BERT, FAMILIES, Family, HardAttention, LayerPlan, anatomy_of, layer_modules
from axformer_lightning.costs import count_encoder_parameters, macs_per_sample
from axformer_lightning.first_token import reading_first_token
from axformer_lightning.gates import closed
from axformer_lightning.hard_attention import attending
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_
from tests.conftest import SAME_LAYOUT

VARIANTS = {
    **{name: (name, {}) for name in FAMILIES},
    "albert, one layer for all": ("albert", {"num_hidden_layers": 4, "num_hidden_groups": 1}),
    "albert, two layers in a group": ("albert", {"num_hidden_layers": 2, "num_hidden_groups": 1, "inner_group_num": 2}),
    "deberta-v2, shared projections and a convolution": (
        "deberta-v2",
        {"share_att_key": True, "conv_kernel_size": 3, "position_biased_input": False},
    ),
    "deberta-v2, absolute positions": ("deberta-v2", {"relative_attention": False, "pos_att_type": []}),
    "modernbert, no biases": ("modernbert", {"attention_bias": False, "mlp_bias": False, "norm_bias": False}),
    "electra, wide embeddings": ("electra", {"embedding_size": 32}),
}
ALL_HEADS = (0, 1, 2, 3)
# What is taken from the last layer; all layers before it stay whole.
TAKEN = {
    "attention block": LayerPlan().without_attention(),
    "feed-forward block": LayerPlan().without_feed_forward(),
    "both blocks": LayerPlan("removed", (), "removed"),
    "head": LayerPlan(heads_removed=(1,)),
    "all heads": LayerPlan(heads_removed=ALL_HEADS),
    "neurons": LayerPlan(neurons_removed=((0, 5), (40, 48))),
    "all neurons": LayerPlan(neurons_removed=((0, 48),)),
    "nothing": LayerPlan(),
}
HARD = {"soft": None, "hard": HardAttention(3), "renormalised": HardAttention(3, True)}
# Each with soft attention, and both kinds of hard attention with what leaves heads that attend.
PAIRS = [(last, "soft") for last in TAKEN]
PAIRS += [("nothing", "hard"), ("head", "hard"), ("neurons", "renormalised"), ("head", "renormalised")]
FEW_PAIRS = [("both blocks", "soft"), ("all heads", "hard"), ("neurons", "renormalised")]  # where the names are BERT's


def cases(few, many):
    """Every variant with many cases, but rows that share BERT's names with a few of them."""
    return [
        pytest.param(variant, *((case,) if isinstance(case, str) else case), id=f"{variant}, {case}")
        for variant in VARIANTS
        for case in (few if variant in SAME_LAYOUT else many)
    ]


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


@pytest.fixture
def family(variant):
    return variant[0]


@pytest.fixture
def model(tiny, variant):
    """Attends as the family does by default; both ways are tested where attention itself is."""
    family, config = variant
    return tiny.model(family, None, **config)


@pytest.fixture
def taken(model):
    """Makes a plan that takes something from the last layer."""

    def make(last, hard=None):
        anatomy = anatomy_of(model)
        layers = (*anatomy.dense_layers()[:-1], LayerPlan(**{**vars(last), "hard_attention": hard}))
        return Plan(anatomy.model_type, anatomy.num_layers, anatomy.num_heads, anatomy.intermediate_size, layers)

    return make


def gated_logits(model, plan, batch, logits):
    with closed(model, plan.layers), attending(model, plan.layers, anatomy_of(model).dense_layers()):
        return logits(model, batch)


@pytest.mark.parametrize(("variant", "last", "hard"), cases(FEW_PAIRS, PAIRS), indirect=["variant"])
def test_gated_equals_cut_and_is_heard(model, batch, logits, taken, last, hard):
    plan = taken(TAKEN[last], HARD[hard])
    dense = logits(model, batch)
    gated = gated_logits(model, plan, batch, logits)
    assert torch.equal(logits(model, batch), dense)
    torch.testing.assert_close(logits(apply_plan_(model, plan), batch), gated, rtol=1e-5, atol=1e-4)
    if plan.layers[-1] != LayerPlan():
        assert (gated - dense).abs().max() > 1e-3


STEPS = ["both blocks", "all heads", "neurons", "all neurons"]


@pytest.mark.parametrize(("variant", "last"), cases(STEPS[:1], STEPS), indirect=["variant"])
def test_cutting_in_two_steps_is_cutting_at_once(tiny, variant, model, batch, logits, taken, last):
    last = TAKEN[last]
    apply_plan_(model, taken(LayerPlan("kept", (1,), "kept", ((0, 5),))))
    more = last
    if last.attention == "kept":
        more = more.without_head(1)
    if last.feed_forward == "kept":
        more = more.without_neurons(0, 5)
    stepwise = logits(apply_plan_(model, taken(more)), batch)
    once = apply_plan_(tiny.model(variant[0], None, **variant[1]), taken(more))
    torch.testing.assert_close(logits(once, batch), stepwise, rtol=1e-5, atol=1e-4)
    assert {name: value.shape for name, value in once.state_dict().items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }


SAVED = [("both blocks", "soft"), ("all heads", "hard"), ("neurons", "renormalised")]


@pytest.mark.parametrize(("variant", "last", "hard"), cases(SAVED[-1:], SAVED), indirect=["variant"])
def test_a_saved_model_comes_back_bit_by_bit(model, batch, logits, taken, tmp_path, last, hard):
    apply_plan_(model, taken(TAKEN[last], HARD[hard]))
    save_pretrained(model, tmp_path)
    loaded = load_pretrained(tmp_path, attn_implementation=model.config._attn_implementation)
    assert torch.equal(logits(loaded, batch), logits(model, batch))


def test_a_search_leaves_the_model_alone_and_finds_what_can_be_cut(model, batch, logits, state):
    before, expected, parameters = state(model), logits(model, batch), count_encoder_parameters(model)
    plan = find_plan(model, [batch], hard_attention_k=3, neuron_groups=4, majority=0, tolerance=5.0)
    assert state(model) == before
    assert torch.equal(logits(model, batch), expected)
    assert {decision.layer for decision in plan.decisions} == set(range(anatomy_of(model).num_layers))
    assert {"hard_attention", "attention", "feed_forward"} <= {decision.kind for decision in plan.decisions}
    assert count_encoder_parameters(apply_plan_(model, plan)) < parameters


def test_a_layer_without_blocks_has_no_weights_but_norms_that_are_read(model, batch, taken):
    apply_plan_(model, taken(TAKEN["both blocks"]))
    left = dict(layer_modules(model)[-1].named_parameters())
    assert all("norm" in name.lower() for name in left)
    model.train()(**batch).loss.backward()
    assert all(parameter.grad is not None for parameter in left.values())


def test_every_layer_takes_the_same_multiply_adds_away(model, taken):
    dense, layers = macs_per_sample(model, 10), anatomy_of(model).num_layers
    last = macs_per_sample(apply_plan_(model, taken(TAKEN["both blocks"])), 10)
    plan = dataclasses.replace(model.axformer_plan, layers=(TAKEN["both blocks"],) * layers)
    assert 0 < (dense - last) * layers == dense - macs_per_sample(apply_plan_(model, plan), 10)


@pytest.mark.parametrize("variant", ["albert, one layer for all"], indirect=True)
def test_a_shared_layer_is_named_once_and_cut_in_every_application(model, batch, logits, taken):
    assert anatomy_of(model).layers == ("albert.encoder.albert_layer_groups.0.albert_layers.0",)
    runs = []
    attention = layer_modules(model)[0].get_submodule("attention.dense")
    attention.register_forward_hook(lambda module, args, out: runs.append(args[0].shape[-1]))
    logits(apply_plan_(model, taken(TAKEN["head"])), batch)
    assert runs == [24] * 4


def test_a_row_that_names_what_is_not_there_is_refused(tiny, monkeypatch):
    wrong = dataclasses.replace(BERT, head_out_projection="attention.out", neuron_in_projections=("intermediate.lin",))
    monkeypatch.setitem(FAMILIES, "bert", wrong)
    expected = r"\['attention.out', 'intermediate.lin'\] in 'bert.encoder.layer.0'.*Fix the row"
    with pytest.raises(ValueError, match=expected):
        anatomy_of(tiny.model("bert"))
    monkeypatch.setitem(FAMILIES, "bert", dataclasses.replace(BERT, layers="encoder.layers"))
    with pytest.raises(ValueError, match=r"layers of a 'bert' model at 'encoder.layers'"):
        anatomy_of(tiny.model("bert"))
    monkeypatch.setitem(FAMILIES, "bert", dataclasses.replace(BERT, intermediate_size="hidden_dim"))
    with pytest.raises(ValueError, match=r"Expected the field 'hidden_dim' .*Fix `intermediate_size` of the row"):
        anatomy_of(tiny.model("bert"))


@pytest.fixture
def eurobert(monkeypatch):
    """A family that is not in the table, and whose layers call their blocks by keyword."""
    row = Family(
        layers="layers",
        self_attention="self_attn",
        head_in_projections=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        head_out_projection="self_attn.o_proj",
        neuron_in_projections=("mlp.gate_proj", "mlp.up_proj"),
        neuron_out_projection="mlp.down_proj",
        attention_modules={"input_layernorm": 1, "self_attn": 2},
        feed_forward_modules={"post_attention_layernorm": 1, "mlp": 1},
        after_attention="post_attention_layernorm",
        pre_norm=True,
    )
    monkeypatch.setitem(FAMILIES, "eurobert", row)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4}
    config = EuroBertConfig(vocab_size=50, intermediate_size=48, pad_token_id=0, **sizes, num_labels=3)
    config.initializer_range, config.classifier_pooling = 0.3, "bos"
    return EuroBertForSequenceClassification(config).eval()


@pytest.mark.parametrize("last", TAKEN)
def test_blocks_that_are_called_by_keyword_are_closed_and_cut_all_the_same(tiny, eurobert, logits, last):
    batch, plan = tiny.batch(), Plan("eurobert", 3, 4, 48, (LayerPlan(), LayerPlan(), TAKEN[last]))
    gated = gated_logits(eurobert, plan, batch, logits)
    with reading_first_token(eurobert, plan.layers), closed(eurobert, plan.layers):
        first = logits(eurobert, batch)
    cut = logits(apply_plan_(eurobert, plan), batch)
    torch.testing.assert_close(cut, gated, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(first, gated, rtol=1e-5, atol=1e-4)


def test_a_search_tries_blocks_that_are_called_by_keyword(tiny, eurobert):
    plan = find_plan(eurobert, [tiny.batch()], hard_attention_k=3, majority=0.0, tolerance=9.0)
    assert {decision.kind for decision in plan.decisions} >= {"attention", "feed_forward", "hard_attention"}
