"""A model measured as it would be left, against the model that is cut and repaired."""

import copy
from dataclasses import replace

import pytest
import torch

from axformer_lightning.anatomy import LayerPlan
from axformer_lightning.budgets.probe import Probe
from axformer_lightning.plan import plan_of
from axformer_lightning.repair import apply_repair_, measure_moments
from axformer_lightning.replay import scoring
from axformer_lightning.scoring import batches_by_length, step_of
from axformer_lightning.surgery import cut_

LENGTHS = (9, 3, 12, 5, 7, 12, 4, 8) * 4
HALF = LayerPlan(heads_removed=(1,), neurons_removed=((0, 24),))
LAYERS = {
    "top": (LayerPlan(), LayerPlan(), HALF),
    "bottom": (HALF, LayerPlan(), LayerPlan()),
    "attention of the middle": (LayerPlan(), LayerPlan("removed"), LayerPlan()),
    "attention of the first": (LayerPlan("removed"), LayerPlan(), HALF),
    "all": (HALF, LayerPlan("kept", (0, 2), "removed"), LayerPlan("removed", (), "kept", ((5, 40),))),
}


@pytest.fixture
def batches(tiny, family):
    return list(batches_by_length([tiny.batch(LENGTHS, tiny.pads[family], seed=3)], 48, tiny.pads[family]))


@pytest.fixture
def probe(model, batches):
    def make(**options):
        with scoring(model, model):
            return Probe.of(model, model, batches, measure_moments(model, model, batches), **options)

    return make


def kl(own_NL, other_NL):
    own, other = own_NL.log_softmax(-1), other_NL.log_softmax(-1)
    return (own.exp() * (own - other)).sum(-1)


def losses(model, batches):
    with torch.no_grad(), scoring(model, model):
        return torch.cat([step_of(model)(batch).loss_N for batch in batches]).double()


def logits_and_labels(model, batches):
    with torch.no_grad(), scoring(model, model):
        scored = [step_of(model)(batch) for batch in batches]
    return torch.cat([one.logits for one in scored]).double(), torch.cat([one.target for one in scored])


@pytest.mark.slow_but_first
@pytest.mark.one_implementation  # all is scored by eager attention
@pytest.mark.parametrize("repairs", [True, pytest.param(False, marks=pytest.mark.one_family)])
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_the_damage_is_that_of_the_model_once_it_is_cut_and_repaired(model, batches, probe, layers, state, repairs):
    before = state(model)
    measured = probe(repairs=repairs)
    with scoring(model, model):
        damage = measured.measure(layers)
        repair = measured.repair_of(layers)
    assert state(model) == before
    cut = copy.deepcopy(model)
    cut_(cut, replace(plan_of(cut), layers=layers))
    as_cut = copy.deepcopy(cut.state_dict())
    apply_repair_(cut, repair)
    assert repairs or all(torch.equal(value, as_cut[name]) for name, value in cut.state_dict().items())
    change_N = losses(cut, batches) - losses(model, batches)
    assert damage.loss == pytest.approx(change_N.mean().item(), abs=1e-4)
    logits, _ = logits_and_labels(model, batches)
    change_N = kl(logits, logits_and_labels(cut, batches)[0])
    assert damage.divergence == pytest.approx(change_N.mean().item(), abs=1e-5)
    assert damage.error == pytest.approx((change_N.std(correction=0) / len(change_N) ** 0.5).item(), abs=1e-4)
    assert damage.samples == len(LENGTHS)


@pytest.mark.slow_but_first
@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_what_is_looked_up_changes_no_bit(probe, model):
    alone, helped = probe(cache_memory=0), probe()
    with scoring(model, model):
        for like in (None, *LAYERS.values()):
            for layers in LAYERS.values():
                assert helped.measure(layers, like=like) == alone.measure(layers)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("family", ["bert"])
@pytest.mark.parametrize("like", [None, (HALF, LayerPlan(), LayerPlan())], ids=["as it is", "after a cut"])
def test_layers_below_the_first_that_differs_are_not_run_again(probe, model, like):
    alone, helped = probe(cache_memory=0), probe()
    before = like or (LayerPlan(),) * 3

    def work(one):
        begun = one.replay.work.layer_tokens
        one.measure((*before[:2], HALF), like=like)
        return one.replay.work.layer_tokens - begun

    with scoring(model, model):
        helped.measure(before, like=like)
        assert work(helped) < 0.5 * work(alone)


@pytest.mark.parametrize("family", ["bert"])
def test_a_pass_ends_when_it_is_told_to(probe, model):
    seen = []

    def ends(damage):
        seen.append(damage.samples)
        return damage.samples >= 8

    with scoring(model, model):
        damage = probe().measure(LAYERS["top"], ends)
    assert damage.samples == seen[-1] < len(LENGTHS)


@pytest.mark.one_implementation
@pytest.mark.parametrize("family", ["bert"])
def test_later_cuts_are_measured_by_the_answers_that_were_given_first(model, batches, probe):
    first = probe()
    cut_(model, replace(plan_of(model), layers=LAYERS["bottom"]))
    later, anew = probe(answers=first.answers), probe()
    wanted = tuple(replace(layer, neurons_removed=((0, 30),)) for layer in LAYERS["bottom"])
    with scoring(model, model):
        further, from_here = later.measure(wanted), anew.measure(wanted)
        repair = later.repair_of(wanted)
    first_NL, as_cut_NL = torch.cat(list(first.answers)).squeeze(1).double().log(), logits_and_labels(model, batches)[0]
    cut_(model, replace(plan_of(model), layers=wanted))
    apply_repair_(model, repair)
    left_NL = logits_and_labels(model, batches)[0]
    change_N = kl(first_NL, left_NL) - kl(first_NL, as_cut_NL)
    assert further.divergence == pytest.approx(change_N.mean().item(), abs=1e-5)
    assert from_here.divergence == pytest.approx(kl(as_cut_NL, left_NL).mean().item(), abs=1e-5)
    assert further.loss == from_here.loss
