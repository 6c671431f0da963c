"""Comparing rules on a tiny model."""

import pytest
import torch
from torch.nn import functional

from axformer_lightning import find_plan
from axformer_lightning.scoring import batches_by_length
from axformer_lightning.sweeps import RULES, compare_rules
from axformer_lightning.sweeps.rules import Setting, Tempered
from axformer_lightning.tasks import TASKS

LENGTHS = (12, 3, 7, 12, 5, 9, 4, 11) * 4


@pytest.fixture
def batches(tiny):
    def make(seed, **entries):
        return list(batches_by_length([tiny.batch(LENGTHS, seed=seed) | entries], 400))

    return make


@pytest.fixture
def classes(tiny):
    return tiny.model("bert", num_labels=3, intermediate_size=48)


@pytest.mark.slow
def test_each_rule_decides_by_the_search_set_and_reports_on_dev(classes, batches, state):
    classes.train()
    before = state(classes)
    search, dev = batches(1), batches(2)
    dense, *results = compare_rules(classes, TASKS["mnli"], "accuracy", search, dev)
    assert [result.name for result in results] == list(RULES)
    assert state(classes) == before
    classes.eval()
    logits, labels = logits_of(classes, dev)
    assert dense.report.loss == pytest.approx(functional.cross_entropy(logits, labels).item(), abs=1e-5)
    assert dense.report.metrics["accuracy"] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert 0 <= dense.report.calibration_error <= 1
    by_name = {result.name: result for result in results}
    plan = find_plan(classes, search, majority=0, batch_tokens=400)
    assert by_name["loss"].accepted == sum(decision.accepted for decision in plan.decisions) > 0
    assert by_name["loss"].search_loss == [d.loss for d in plan.decisions if d.accepted][-1]
    assert by_name["loss"].report.encoder_parameters < dense.report.encoder_parameters
    assert by_name["loss"].searched.loss == pytest.approx(by_name["loss"].search_loss, abs=1e-5)
    assert dense.searched.loss == pytest.approx(functional.cross_entropy(*logits_of(classes, search)).item(), abs=1e-5)
    assert by_name["loss_sweeps"].search_loss <= by_name["loss"].search_loss
    assert by_name["loss_sweeps"].candidates > by_name["loss"].candidates


@pytest.mark.slow
def test_the_dense_model_is_retrained_as_well_and_an_untouched_one_is_not_trained_twice(classes, batches):
    trained = []

    def retrain(model):
        trained.append(sum(parameter.numel() for parameter in model.parameters()))
        with torch.no_grad():
            model.classifier.bias += torch.tensor([0.0, 0.0, 50.0])  # only the last class is predicted now

    search, dev = batches(1), batches(2)
    rules = {"never": Setting({"majority": 0.99}), "loss": RULES["loss"]}  # no sample may be worse
    before = classes.classifier.bias.clone()
    dense, never, loss = compare_rules(classes, TASKS["mnli"], "accuracy", search, dev, rules, retrain)
    assert torch.equal(classes.classifier.bias, before)
    assert len(trained) == 2
    assert trained[0] > trained[1]  # the dense one, and the one cut by loss
    assert (never.accepted, never.report, never.retrained) == (0, dense.report, dense.retrained)
    last = (torch.cat([batch["labels"] for batch in dev]) == 2).double().mean().item()
    for result in (dense, loss):
        assert result.retrained.metrics["accuracy"] == pytest.approx(last)
        assert result.report.metrics["accuracy"] != pytest.approx(last)
    assert loss.retrained.encoder_parameters == loss.report.encoder_parameters < dense.report.encoder_parameters


def test_without_retraining_nothing_is_said_of_it(classes, batches):
    assert [
        result.retrained for result in compare_rules(classes, TASKS["mnli"], "accuracy", *[batches(1)] * 2, {})
    ] == [None]


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
            {"metric": RULES["metric"], "loss_tempered": RULES["loss_tempered"]},
        )
    )
    assert [result.name for result in results] == ["dense", "metric"]
    assert results[0].report.calibration_error is None
    assert results[1].report.metrics["spearman"] > results[0].report.metrics["spearman"]


def test_a_temperature_divides_logits_and_changes_no_prediction(classes, batches):
    (batch, *_) = batches(1)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        assert torch.equal(Tempered(classes, 2.0)(**inputs) * 2, classes(**inputs).logits)
