import copy

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
)

from axformer_lightning import Plan, apply_plan_
from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.costs import count_encoder_parameters, count_parameters, macs_per_sample
from axformer_lightning.costs.measured import uniform_batch

HIDDEN, HEADS, NEURONS, LAYERS, LENGTH, LABELS = 24, 4, 60, 3, 11, 2
WIDTH = HIDDEN // HEADS
NUM_POSITIONS = {"bert": 64, "distilbert": 64, "roberta": 62}
SIZES = {"vocab_size": 50, "max_position_embeddings": 64, "num_labels": LABELS}
BERT_LIKE = {
    "hidden_size": HIDDEN, "num_attention_heads": HEADS, "intermediate_size": NEURONS, "num_hidden_layers": LAYERS
}  # fmt: skip
FAMILIES = {
    "bert": BERT_LIKE,
    "roberta": BERT_LIKE,
    "distilbert": {"dim": HIDDEN, "n_heads": HEADS, "hidden_dim": NEURONS, "n_layers": LAYERS},
}
LAYER_PLANS = (
    LayerPlan(heads_removed=(0, 2), hard_attention=HardAttention(k=3)),
    LayerPlan("removed", neurons_removed=((0, 5), (40, 60))),
    LayerPlan(feed_forward="removed", heads_removed=(0, 1, 2, 3)),
)


@pytest.fixture(params=FAMILIES)
def model(request):
    config = AutoConfig.for_model(request.param, **SIZES, **FAMILIES[request.param])
    return AutoModelForSequenceClassification.from_config(config)


def cut(model):
    plan = Plan(model.config.model_type, LAYERS, HEADS, NEURONS, LAYER_PLANS)
    return apply_plan_(copy.deepcopy(model), plan)


def attention_macs(num_heads, length=LENGTH):
    features = num_heads * WIDTH
    return length * (4 * HIDDEN * features) + 2 * length * length * features


def feed_forward_macs(neurons, length=LENGTH):
    return length * 2 * HIDDEN * neurons


def removed_macs():
    """What LAYER_PLANS take away."""
    attention = 2 * attention_macs(HEADS) + attention_macs(2)
    return attention + feed_forward_macs(25) + feed_forward_macs(NEURONS)


def removed_parameters():
    """What LAYER_PLANS take away: a removed block with its biases, a removed part without the writer's bias."""
    per_head = WIDTH * (4 * HIDDEN + 3)
    per_neuron = 2 * HIDDEN + 1
    return (2 + HEADS + HEADS) * per_head + HIDDEN + (25 + NEURONS) * per_neuron + HIDDEN


def test_the_multiply_adds_are_those_of_the_formula(model):
    encoder = LAYERS * (attention_macs(HEADS) + feed_forward_macs(NEURONS))
    pooler_and_head = HIDDEN * HIDDEN + HIDDEN * LABELS
    assert macs_per_sample(model, LENGTH) == encoder + pooler_and_head


def test_a_cut_takes_exactly_its_multiply_adds_away(model):
    assert macs_per_sample(model, LENGTH) - macs_per_sample(cut(model), LENGTH) == removed_macs()


def test_a_head_for_every_token_is_counted_for_every_token():
    model = BertForQuestionAnswering(BertConfig(**SIZES, **BERT_LIKE))
    encoder = LAYERS * (attention_macs(HEADS) + feed_forward_macs(NEURONS))
    assert macs_per_sample(model, LENGTH) == encoder + LENGTH * HIDDEN * 2


def test_hard_attention_computes_the_same_products(model):
    layers = (LayerPlan(hard_attention=HardAttention(k=3)),) * LAYERS
    hard = apply_plan_(copy.deepcopy(model), Plan(model.config.model_type, LAYERS, HEADS, NEURONS, layers))
    assert macs_per_sample(hard, LENGTH) == macs_per_sample(model, LENGTH)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_counting_leaves_the_model_as_it_was(implementation):
    model = BertForSequenceClassification(BertConfig(**SIZES, **BERT_LIKE, attn_implementation=implementation))
    model.bert.encoder.layer[1].eval()
    before = {name: module.training for name, module in model.named_modules()}
    kept_for_gradients = []
    model.register_forward_hook(lambda module, args, output: kept_for_gradients.append(output.logits.requires_grad))
    macs_per_sample(model, LENGTH)
    assert kept_for_gradients == [False]
    assert {name: module.training for name, module in model.named_modules()} == before
    assert len(set(before.values())) == 2
    assert model.config._attn_implementation == implementation


def test_the_mode_is_restored_after_an_error(monkeypatch):
    model = BertForSequenceClassification(BertConfig(**SIZES, **BERT_LIKE))
    monkeypatch.setattr(model.bert, "forward", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        macs_per_sample(model, LENGTH)
    assert all(module.training for module in model.modules())


def test_a_cut_takes_exactly_its_parameters_away(model):
    smaller = cut(model)
    assert count_parameters(model) - count_parameters(smaller) == removed_parameters()
    assert count_encoder_parameters(model) - count_encoder_parameters(smaller) == removed_parameters()


def test_the_encoder_has_neither_embeddings_nor_pooler_nor_head(model):
    norms = 2 * 2 * HIDDEN
    attention, feed_forward = 4 * (HIDDEN * HIDDEN + HIDDEN), 2 * HIDDEN * NEURONS + NEURONS + HIDDEN
    assert count_encoder_parameters(model) == LAYERS * (attention + feed_forward + norms)


def test_shared_parameters_count_once():
    first, second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    second.weight = first.weight
    assert count_parameters(torch.nn.Sequential(first, second)) == 16 + 4 + 4


def test_the_longest_sample_is_read_and_a_longer_one_is_named(model):
    longest = NUM_POSITIONS[model.config.model_type]
    assert macs_per_sample(model, longest) > macs_per_sample(model, longest - 1)
    for length in (longest + 1, 0):
        with pytest.raises(ValueError, match=rf"Expected `length` to be 1 to {longest}, .* got {length}"):
            macs_per_sample(model, length)


def test_no_token_of_a_sample_is_padding(model):
    batch = uniform_batch(model, 2, LENGTH)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, LENGTH)
    assert not (batch["input_ids"] == model.config.pad_token_id).any()
    assert batch["attention_mask"].all()
