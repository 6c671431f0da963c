"""One round without a trainer."""

import copy

import pytest
import torch

from axformer_lightning import apply_plan_, find_plan
from axformer_lightning.anatomy import HardAttention
from axformer_lightning.criteria import Rule
from axformer_lightning.rounds import search_and_cut_
from axformer_lightning.scoring import search_batches
from axformer_lightning.search import Pruning, SearchSettings

TOLERANT = Rule(majority=0, tolerance=100)
SETTINGS = SearchSettings(HardAttention(2), Pruning(4), TOLERANT)


@pytest.fixture
def batches(model, tiny):
    return search_batches(model, [tiny.batch((5, 3, 7, 4, 6, 3), seed=3)], SETTINGS.batch_tokens, model.config)


@pytest.fixture
def family():
    return "bert"


def test_a_round_leaves_the_model_that_the_plan_of_its_search_leaves(model, batches):
    plan = find_plan(model, batches, hard_attention_k=2, neuron_groups=4, majority=0, tolerance=100)
    expected = apply_plan_(copy.deepcopy(model), plan).state_dict()
    cut = search_and_cut_(model, model, batches, SETTINGS)
    assert cut.plan == plan == model.axformer_plan
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert cut.counts.accepted == sum(decision.accepted for decision in plan.decisions) > 0
    parameters = {id(parameter) for parameter in model.parameters()}
    assert {id(edit.new) for edit in cut.edits if edit.new is not None} <= parameters


def test_a_model_that_cannot_be_cut_stays_as_it_is(model, batches, state):
    first, second, *_ = model.bert.encoder.layer
    first.output.dense.weight = second.output.dense.weight  # shared, so a cut of one would cut the other
    before = state(model)
    with pytest.raises(ValueError, match="shares them"):
        search_and_cut_(model, model, batches, SearchSettings(pruning=Pruning(4), rule=TOLERANT))
    assert state(model) == before
    assert getattr(model, "axformer_plan", None) is None
