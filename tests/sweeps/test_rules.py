"""Comparing rules on a tiny model."""

import pytest
import torch
from torch.nn import functional

from axformer_lightning import find_plan
from axformer_lightning.scoring import batches_by_length
from axformer_lightning.sweeps import RULES, compare_rules
from axformer_lightning.sweeps.rules import Tempered
from axformer_lightning.tasks import TASKS

LENGTHS = (12, 3, 7, 12, 5, 9, 4, 11) * 4


@pytest.fixture
def batches(tiny):
    def make(seed, **entries):
        return list(batches_by_length([tiny.batch(LENGTHS, seed=seed) | entries], 96))

    return make


@pytest.fixture
def classes(tiny):
    return tiny.model("bert", num_labels=3, intermediate_size=48)


def test_each_rule_decides_by_the_search_set_and_reports_on_dev(classes, batches, state):
    before = state(classes)
    search, dev = batches(1), batches(2)
    dense, *results = compare_rules(classes, TASKS["mnli"], "accuracy", search, dev)
    assert [result.name for result in results] == list(RULES)
    assert state(classes) == before
    logits, labels = logits_of(classes, dev)
    assert dense.loss == pytest.approx(functional.cross_entropy(logits, labels).item(), abs=1e-5)
    assert dense.metrics["accuracy"] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert 0 <= dense.calibration_error <= 1
    by_name = {result.name: result for result in results}
    plan = find_plan(classes, search, majority=0, batch_tokens=96)
    assert by_name["loss"].accepted == sum(decision.accepted for decision in plan.decisions) > 0
    assert by_name["loss"].search_loss == [d.loss for d in plan.decisions if d.accepted][-1]
    assert by_name["loss"].encoder_parameters < dense.encoder_parameters
    assert by_name["loss, several sweeps"].search_loss <= by_name["loss"].search_loss
    assert by_name["loss, several sweeps"].candidates > by_name["loss"].candidates


def logits_of(model, batches):
    with torch.no_grad():
        logits = [model(b["input_ids"], b["attention_mask"]).logits for b in batches]
    return torch.cat(logits), torch.cat([b["labels"] for b in batches])


def test_numbers_are_compared_without_rules_for_classes(tiny, batches):
    model = tiny.model("bert", num_labels=1, problem_type="regression")
    labels = torch.rand(len(LENGTHS), generator=torch.Generator().manual_seed(0)) * 5
    search = batches(1, labels=labels)
    results = list(
        compare_rules(
            model,
            TASKS["stsb"],
            "spearman",
            search,
            search,
            {"metric": RULES["metric"], "loss of tempered logits": RULES["loss of tempered logits"]},
        )
    )
    assert [result.name for result in results] == ["dense", "metric"]
    assert results[0].calibration_error is None
    assert results[1].metrics["spearman"] > results[0].metrics["spearman"]


def test_a_temperature_divides_logits_and_changes_no_prediction(classes, batches):
    (batch, *_) = batches(1)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        assert torch.equal(Tempered(classes, 2.0)(**inputs) * 2, classes(**inputs).logits)
