"""What each feature of the search saves, on a model that takes no time; asserted by counts, never by time."""

import itertools

import pytest
import torch
from matplotlib.image import imread

from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.criteria import Rule
from axformer_lightning.plan import Decision, Plan
from axformer_lightning.scoring import batches_by_length
from axformer_lightning.search import Pruning, SearchSettings, find_plan
from axformer_lightning.sweeps import memory, search_cost
from axformer_lightning.sweeps.search_cost import Cost, draw_growth, growth_cost, growth_figure, measure

LENGTHS = (12, 3, 7, 11, 5, 9, 4, 11, 2, 8, 10, 6)
LAYERS, LENGTH = 2, 12
SETTINGS = SearchSettings(HardAttention(4), Pruning(3, 1.1), Rule(majority=0))
HARD_ONLY = SearchSettings(HardAttention(4), rule=Rule(majority=0))
EXACT = ["exhaustive", "+ batches by length", "+ replay", "+ shared blocks", "+ first token", "+ exact early rejection"]


@pytest.fixture
def model(tiny):
    return tiny.model("bert", num_hidden_layers=LAYERS)


@pytest.fixture
def samples(tiny):
    return tiny.batch(LENGTHS)


def costs(model, samples, settings=SETTINGS, cache_memory=2**30, batch_tokens=60, steps=None):
    """What all steps cost, or the first few."""
    found = search_cost.search_costs(model, samples, settings, cache_memory=cache_memory, batch_tokens=batch_tokens)
    return {cost.step: cost for cost in itertools.islice(found, steps)}


def by_length(samples):
    return batches_by_length([samples], 60)


@pytest.mark.slow
def test_every_feature_saves_work_and_no_exact_one_changes_a_decision(tiny, model):
    found = costs(model, tiny.batch(LENGTHS * 10))
    assert list(found) == [*EXACT, "+ statistical stop"]
    assert [found[name].differing for name in EXACT] == [0] * len(EXACT)
    assert len({(found[name].candidates, found[name].accepted) for name in EXACT}) == 1
    assert 0 < found["exhaustive"].accepted < found["exhaustive"].candidates
    work = [found[name].layer_tokens for name in EXACT]
    assert all(more > less for more, less in itertools.pairwise(work)), work


def test_only_the_last_step_may_decide_otherwise():
    *exact, last = search_cost.steps(SETTINGS, 2**30)
    assert {step.settings.early_stop for step in exact} == {"exact"}
    assert (last.settings.early_stop, last.settings.full_scores) == ("statistical", False)
    assert [step.settings.full_scores for step in exact] == [True] * 5 + [False]


def test_the_decisions_are_those_of_a_plain_search(model, samples):
    plan = find_plan(model, [samples], hard_attention_k=4, neuron_groups=3, majority=0)
    cost = next(search_cost.search_costs(model, samples, SETTINGS, cache_memory=0))
    assert cost.accepted == sum(decision.accepted for decision in plan.decisions)
    assert cost.candidates == len(plan.decisions)


def test_the_first_step_runs_every_sample_padded_through_every_layer(model, samples):
    cost = costs(model, samples, HARD_ONLY, steps=1)["exhaustive"]
    once = LAYERS * len(LENGTHS) * LENGTH
    assert cost.layer_tokens == pytest.approx((1 + LAYERS) * once)
    assert cost.exhaustive_layer_tokens == LAYERS * once


@pytest.mark.slow
def test_the_model_is_the_same_afterwards(model, samples, state):
    model.train()
    before = state(model)
    costs(model, samples, HARD_ONLY)
    assert state(model) == before


@pytest.mark.slow
def test_nothing_is_kept_before_the_replay_and_no_more_than_allowed_after_it(tiny, model):
    samples = tiny.batch(LENGTHS * 2)
    found = costs(model, samples, HARD_ONLY, steps=3)
    assert [found[name].kept_bytes for name in EXACT[:2]] == [0, 0]
    peak = found["+ replay"].kept_bytes
    assert peak > 0
    assert 0 < costs(model, samples, HARD_ONLY, cache_memory=peak // 2, steps=3)["+ replay"].kept_bytes < 0.75 * peak


def plan_of(**accepted):
    decisions = (Decision(1, "head", 0, int(name[1:]), 1.0, 1.0, 1.0, yes, 4) for name, yes in accepted.items())
    return Plan("bert", 1, 4, 64, (LayerPlan(),), tuple(decisions))


@pytest.mark.parametrize(
    ("decided", "number"),
    [
        ({"h0": True, "h1": False}, 0),
        ({"h1": False, "h0": True}, 0),
        ({"h0": False, "h1": False}, 1),
        ({"h0": False, "h1": True}, 2),
        ({"h0": True}, 1),
        ({"h0": True, "h1": False, "h2": False}, 1),
    ],
)
def test_other_decisions_and_missing_ones_are_counted(decided, number):
    assert search_cost.num_differing(plan_of(**decided), plan_of(h0=True, h1=False)) == number


@pytest.mark.slow
def test_twice_the_samples_are_twice_the_work_and_twice_the_memory(model, tiny):
    one, two = (growth_cost(model, by_length(tiny.batch((6,) * count)), cache_memory=2**30) for count in (20, 40))
    assert one.candidates == two.candidates == LAYERS
    assert two.layer_tokens == pytest.approx(2 * one.layer_tokens)
    assert two.kept_bytes == 2 * one.kept_bytes > 0


@pytest.mark.slow
def test_more_samples_keep_no_more_than_allowed(model, tiny):
    budget = growth_cost(model, by_length(tiny.batch((6,) * 40)), cache_memory=2**30).kept_bytes
    assert growth_cost(model, by_length(tiny.batch((6,) * 80)), cache_memory=budget).kept_bytes < 1.5 * budget


@pytest.mark.slow
def test_memory_that_was_freed_before_is_not_counted(model, samples):
    before = measure("first", model, by_length(samples), HARD_ONLY)[1].peak_rss
    if before is None:
        pytest.skip("the kernel does not count")
    torch.ones(100 * 2**20)  # 400 MB
    after = measure("second", model, by_length(samples), HARD_ONLY)[1].peak_rss
    assert abs(after - before) < 200 * 2**20


def test_where_the_kernel_does_not_count_the_peak_is_unknown(model, samples, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "not_there" / "clear_refs")
    assert measure("first", model, by_length(samples), HARD_ONLY)[1].peak_rss is None


def cost_of(layer_tokens):
    return Cost("growth", 3, 0, 0, layer_tokens, 1.0, layer_tokens / 10, 1.0, int(layer_tokens), None, None)


CURVES = {"samples": [(10, cost_of(100.0)), (40, cost_of(500.0))], "layers": [(2, cost_of(7.0)), (4, cost_of(30.0))]}


def test_the_picture_has_a_row_for_each_curve_and_what_was_measured():
    axes = growth_figure(CURVES).axes
    assert [one.get_xlabel() for one in axes] == ["samples"] * 3 + ["layers"] * 3
    proportional, measured = axes[0].lines
    assert [*measured.get_xdata()] == [10, 40]
    assert [*measured.get_ydata()] == [100, 500]
    assert [*proportional.get_ydata()] == [100, 400]
    assert [*axes[4].lines[1].get_ydata()] == [0.7, 3.0]


def test_the_picture_is_written(tmp_path):
    draw_growth({"layers": CURVES["layers"]}, tmp_path / "growth.png")
    assert imread(tmp_path / "growth.png").shape[1] == 1500
