"""A search that judges candidates as they would be left: cut and repaired."""

import copy
from dataclasses import replace

import pytest
import torch

from axformer_lightning.anatomy import Candidate, HardAttention, layers_left
from axformer_lightning.criteria import Rule
from axformer_lightning.plan import Plan
from axformer_lightning.repair import apply_repair_, find_repair, measure_moments
from axformer_lightning.replay import scoring
from axformer_lightning.rounds import search_and_cut_
from axformer_lightning.scoring import batches_by_length, step_of
from axformer_lightning.search import Pruning, SearchSettings, search
from axformer_lightning.surgery import apply_plan_, cut_

LENGTHS = (9, 3, 12, 5, 7, 12, 4, 8) * 4
SETTINGS = SearchSettings(pruning=Pruning(repair=True), rule=Rule(majority=0, tolerance=0.05))


@pytest.fixture
def batches(tiny, family):
    return list(batches_by_length([tiny.batch(LENGTHS, tiny.pads[family], seed=3)], 48, tiny.pads[family]))


def mean_loss(model, batches):
    with torch.no_grad(), scoring(model, model):
        return torch.cat([step_of(model)(batch).loss_N for batch in batches]).double().mean().item()


@pytest.mark.slow_but_first
@pytest.mark.one_implementation
def test_the_model_that_is_left_has_the_loss_of_the_last_that_was_accepted(model, batches):
    cut = search_and_cut_(model, model, batches, SETTINGS)
    accepted = [decision for decision in cut.plan.decisions if decision.accepted]
    assert mean_loss(model, batches) == pytest.approx(accepted[-1].loss, abs=1e-4)
    assert cut.repaired <= {name for name, _ in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_every_candidate_is_judged_cut_and_repaired(model, batches):
    with scoring(model, model):
        moments = measure_moments(model, model, batches)
    plan, now = search(model, model, batches, replace(SETTINGS, full_scores=True)).plan, layers_left(model)
    tried = {"feed_forward": "without_feed_forward", "attention": "without_attention"}
    for decision in plan.decisions:
        if decision.kind in tried:
            layer = getattr(now[decision.layer], tried[decision.kind])()
            wanted = (*now[: decision.layer], layer, *now[decision.layer + 1 :])
            alone = copy.deepcopy(model)
            repair = find_repair(alone, wanted, moments, means=False)
            cut_(alone, replace(plan, layers=wanted, decisions=()))
            apply_repair_(alone, repair)
            assert mean_loss(alone, batches) == pytest.approx(decision.loss, abs=1e-4), decision
            if decision.accepted:
                now = wanted
        elif decision.accepted:
            now = (*now[: decision.layer], plan.layers[decision.layer], *now[decision.layer + 1 :])
            if decision.kind == "neurons_left":  # its attention comes after it
                now = (
                    *now[: decision.layer],
                    replace(now[decision.layer], attention="kept", heads_removed=()),
                    *now[decision.layer + 1 :],
                )


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_widths_are_tried_from_the_narrowest_until_one_is_accepted(model, batches):
    plan = search(model, model, batches, SETTINGS).plan
    assert "neuron_group" not in {decision.kind for decision in plan.decisions}
    for layer in range(3):
        for whole, kind in (("feed_forward", "neurons_left"), ("attention", "heads_left")):
            (block,) = [d for d in plan.decisions if (d.kind, d.layer) == (whole, layer)]
            widths = [d for d in plan.decisions if (d.kind, d.layer) == (kind, layer)]
            assert [d.index for d in widths] == sorted(d.index for d in widths)
            assert not any(d.accepted for d in widths[:-1])
            assert bool(widths) != block.accepted
            units = {
                "neurons_left": plan.layers[layer].kept_neurons(48),
                "heads_left": plan.layers[layer].kept_heads(4),
            }
            if widths and widths[-1].accepted:
                assert len(units[kind]) == widths[-1].index
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_best_first_orders_blocks_and_leaves_widths_in_their_order(model, batches):
    pruning = Pruning(repair=True, strategy="best_first")
    plan = search(model, model, batches, SearchSettings(pruning=pruning, rule=Rule(majority=0.999))).plan
    wholes = [(decision.kind, decision.layer) for decision in plan.decisions if decision.index is None]
    assert [layer for _, layer in wholes] != sorted([layer for _, layer in wholes], reverse=True)
    for kind, layer in wholes:
        tried = "neurons_left" if kind == "feed_forward" else "heads_left"
        widths = [decision.index for decision in plan.decisions if (decision.kind, decision.layer) == (tried, layer)]
        assert widths == sorted(widths) != []


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_hard_attention_that_was_accepted_is_there_when_moments_are_measured(model, batches):
    settings = replace(SETTINGS, hard_attention=HardAttention(2), hard_rule=Rule(majority=0, tolerance=9.0))
    found = search(model, model, batches, settings)
    hard = replace(
        found.plan, layers=tuple(replace(layer, hard_attention=HardAttention(2)) for layer in layers_left(model))
    )
    attending = apply_plan_(copy.deepcopy(model), hard)
    with scoring(attending, attending):
        moments = measure_moments(attending, attending, batches)
    wanted = find_repair(attending, found.plan.layers, moments, means=False)
    assert found.repair.values.keys() == wanted.values.keys()
    for name, value in wanted.values.items():
        torch.testing.assert_close(found.repair.values[name], value, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_a_killed_search_goes_on_to_the_same_repair(model, batches, tmp_path):
    whole = search(model, model, batches, SETTINGS)
    seen = []

    def die(trial):
        seen.append(trial)
        if len(seen) == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        search(model, model, batches, SETTINGS, journal=tmp_path / "journal", on_trial=die)
    resumed = search(model, model, batches, SETTINGS, journal=tmp_path / "journal")
    assert resumed.plan == whole.plan
    assert all(torch.equal(value, resumed.repair.values[name]) for name, value in whole.repair.values.items())


def test_a_width_needs_a_number():
    with pytest.raises(ValueError, match="an index for parts"):
        Candidate("neurons_left", 0)


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_out_projections_with_one_bias_are_searched_without_repair_alone(model, batches, monkeypatch):
    layers = model.bert.encoder.layer
    layers[2].output.dense.bias = layers[0].output.dense.bias
    assert not search(model, model, batches, replace(SETTINGS, pruning=Pruning())).plan.removes_nothing
    monkeypatch.setattr("axformer_lightning.search.find.measure_baseline", None)
    with pytest.raises(
        ValueError, match=r"its own at .*shares it with .*Untie them; a search without repair .* does with it"
    ):
        search(model, model, batches, SETTINGS)
