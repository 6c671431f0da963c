"""A latency table adds up; no test asks a clock."""

import dataclasses
import itertools
import random

import pytest
import torch

from axformer_lightning import Plan, apply_plan_
from axformer_lightning.anatomy import HardAttention, LayerPlan, anatomy_of, layers_left
from axformer_lightning.costs import Conditions
from axformer_lightning.first_token import set_first_token_
from axformer_lightning.timing import _rungs, measure_latency, medians_ms, seconds_of

HEADS, NEURONS = 4, 48
SEEN = {"batch_size": 2, "tokens": 5}


def milliseconds(layer, per_head=3.0, per_neuron=0.25, hard=2.0):
    """What a layer takes: lines with an offset, and nothing where a block is gone."""
    heads, neurons = len(layer.kept_heads(HEADS)), len(layer.kept_neurons(NEURONS))
    attention = 1.0 + per_head * heads * (hard if layer.is_hard else 1.0)
    return attention * (layer.attention == "kept") + (0.5 + per_neuron * neurons) * (layer.feed_forward == "kept")


def clock(model, batch):
    return (7.0 + sum(milliseconds(layer) for layer in layers_left(model))) / 1000


def random_layer(draw, hard=None):
    heads = tuple(sorted(draw.sample(range(HEADS), draw.randint(0, HEADS))))
    start = draw.randint(0, NEURONS - 1)
    layer = LayerPlan(heads_removed=heads, neurons_removed=((start, draw.randint(start + 1, NEURONS)),))
    layer = layer if draw.random() < 0.7 else layer.without_attention()
    layer = layer if draw.random() < 0.7 else layer.without_feed_forward()
    return dataclasses.replace(layer, hard_attention=draw.choice([None, hard]))


@pytest.mark.slow_but_first
@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert"])
def test_what_is_a_sum_of_lines_is_predicted_exactly(tiny, family):
    hard = HardAttention(3)
    table = measure_latency(tiny.model(family), hard_attention=hard, timer=clock, **SEEN)
    draw = random.Random(0)
    for _ in range(50):
        layers = [random_layer(draw, hard) for _ in range(3)]
        assert table.predict_ms(layers) == pytest.approx(7 + sum(map(milliseconds, layers)))


@pytest.mark.slow
def test_only_some_layers_of_a_deep_model_are_timed(tiny):
    seen = []

    def timer(model, batch):
        seen.append(sum(layer != LayerPlan("removed", (), "removed") for layer in layers_left(model)))
        return clock(model, batch)

    table = measure_latency(tiny.model("bert", num_hidden_layers=9), timer=timer, **SEEN)
    assert set(seen) == {0, 6}
    assert table.predict_ms([LayerPlan()] * 9) == pytest.approx(7 + 9 * milliseconds(LayerPlan()))


def test_times_are_scaled_to_those_of_the_dense_model(tiny):
    def timer(model, batch):
        whole = any(layer == LayerPlan() for layer in layers_left(model))
        return (7 + (clock(model, batch) * 1000 - 7) * (1.25 if whole else 1)) / 1000

    table = measure_latency(tiny.model("bert"), timer=timer, **SEEN)
    assert table.predict_ms([LayerPlan()] * 3) == pytest.approx(7 + 1.25 * 3 * milliseconds(LayerPlan()))
    assert table.block_ms("attention", 2) == pytest.approx(1.25 * 7)


def test_a_hiccup_and_a_slow_round_change_nothing(tiny):
    calls = itertools.count()

    def timer(model, batch):
        call = next(calls)
        slow_round = 3.0 if 3 * 13 <= call < 4 * 13 else 1.0
        return 1000 * clock(model, batch) * slow_round * (50.0 if call in (17, 60, 95) else 1.0)

    table = measure_latency(tiny.model("bert"), timer=timer, seconds=1e9, **SEEN)
    assert table.block_ms("attention", HEADS) == pytest.approx(13000)


@pytest.mark.parametrize("middle", [55, 60])
def test_a_machine_that_becomes_slower_in_the_middle_of_a_round_changes_no_proportion(tiny, middle):
    calls = itertools.count()
    timer = lambda model, batch: 1000 * clock(model, batch) * (3.0 if next(calls) >= middle else 1.0)  # noqa: E731
    table = measure_latency(tiny.model("bert"), timer=timer, seconds=1e9, **SEEN)
    assert table.block_ms("attention", HEADS) / table.rest_ms == pytest.approx(13 / 7)
    assert table.block_ms("feed_forward", NEURONS) / table.rest_ms == pytest.approx(12.5 / 7)


@pytest.mark.parametrize("seed", range(2))
def test_noise_makes_no_block_cheaper_by_more_units(tiny, seed):
    draw = random.Random(seed)
    table = measure_latency(tiny.model("bert"), timer=lambda model, batch: draw.random(), **SEEN)
    for rungs in table.blocks.values():
        times = [table.block_ms("attention", units) for units in range(HEADS + 1)]
        assert times == sorted(times)
        assert all(ms >= 0 for _, ms in rungs)


@pytest.mark.parametrize("attempt", ["bert", "vit"])
def test_every_width_is_timed_in_turns_with_the_batch_asked_for(tiny, attempt):
    log = []

    def timer(model, batch):
        log.append((layers_left(model)[0], {name: tuple(value.shape) for name, value in batch.items()}))
        return 1.0

    measure_latency(tiny.model(attempt), rounds=2, timer=timer, **SEEN)
    one_turn = len({layer for layer, _ in log})
    assert one_turn == 2 + len(_rungs(HEADS)) + len(_rungs(NEURONS))
    assert [layer for layer, _ in log] == [layer for layer, _ in log[:one_turn]] * 3  # one is a warm-up
    shape = (2, 3, 8, 8) if attempt == "vit" else (2, 5)
    assert all(shape in batch.values() for _, batch in log)


@pytest.mark.parametrize(("seconds", "rounds"), [(1e9, 7), (0.0, 3), (61.0, 4)])
def test_no_round_begins_after_the_time_is_over(seconds, rounds):
    calls = []
    timer = lambda model, batch: calls.append(model) or 10.0  # noqa: E731
    medians_ms({1: "one", 2: "two"}, {}, seconds=seconds, timer=timer)
    assert len(calls) == 2 * (1 + rounds)


def test_short_passes_are_timed_several_at_a_time():
    calls = []
    medians_ms({1: "one"}, {}, rounds=3, timer=lambda model, batch: calls.append(model) or 0.003)
    assert len(calls) == 2 + 3 * 7


def test_a_real_pass_leaves_the_model_as_it_was_and_shares_its_weights(tiny, state):
    model = tiny.model("bert", "sdpa").train()
    before = state(model)
    shared = []

    def timer(copy, batch):
        assert not copy.training
        assert torch.is_inference_mode_enabled()
        shared.append(copy.bert.embeddings.word_embeddings.weight is model.bert.embeddings.word_embeddings.weight)
        return seconds_of(copy, batch)

    table = measure_latency(model, rounds=1, timer=timer, **SEEN)
    assert state(model) == before
    assert all(shared)
    assert table.predict_ms([LayerPlan()] * 3) > 0
    assert table.conditions == Conditions.of(model, **SEEN)


def test_a_cut_model_is_refused(tiny):
    model = tiny.model("bert")
    apply_plan_(model, dataclasses.replace(Plan.dense(anatomy_of(model)), layers=(LayerPlan(heads_removed=(1,)),) * 3))
    with pytest.raises(ValueError, match=r"Expected a model to which no plan was applied.* Measure the dense model"):
        measure_latency(model, timer=clock, **SEEN)


def test_a_model_that_skips_tokens_is_refused_as_its_blocks_have_no_time_of_their_own(tiny):
    table = measure_latency(tiny.model("bert"), timer=clock, **SEEN)
    model = tiny.model("bert")
    set_first_token_(model)
    for ask in (lambda: measure_latency(model, timer=clock, **SEEN), lambda: table.check(model, **SEEN)):
        with pytest.raises(ValueError, match=r"a model that computes every token, got one .*first_token_only=False"):
            ask()


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_round_is_no_measurement(tiny, rounds):
    with pytest.raises(ValueError, match=rf"Expected `rounds` to be a whole number of at least 1, got {rounds}"):
        measure_latency(tiny.model("bert"), batch_size=1, tokens=4, rounds=rounds, timer=lambda model, batch: 0.1)
