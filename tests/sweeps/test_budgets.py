"""Ways to a given size, compared on a tiny model."""

import copy
import json
from dataclasses import asdict

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from axformer_lightning.budgets import Budget, Effort, shrink_
from axformer_lightning.costs import count_encoder_parameters, layer_sizes
from axformer_lightning.scoring import batches_by_length
from axformer_lightning.sweeps import METHODS, BudgetResult, compare_budgets, report_of
from axformer_lightning.sweeps.baselines import by_output_error, in_slices, ours, top_layers
from axformer_lightning.tasks import TASKS

LENGTHS = (9, 3, 12, 5, 7, 12, 4, 8) * 4
QUICK = Effort(table_samples=8, tries=0)
RATIOS = (1.5, 3.0)
TASK = TASKS["mnli"]


@pytest.fixture
def batches(tiny):
    return lambda seed, **entries: batches_by_length([tiny.batch(LENGTHS, seed=seed) | entries], 100)


@pytest.fixture
def bert(tiny):
    return tiny.model("bert")


def kept(model):
    """What is left of each layer, and all values."""
    values = {name: value.clone() for name, value in model.state_dict().items()}
    return getattr(model, "axformer_plan", None), values


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", METHODS)
def test_a_method_reaches_one_size_after_the_other_on_one_model(bert, batches, name):
    dense = count_encoder_parameters(bert)
    sizes = [(ratio, count_encoder_parameters(bert)) for ratio in METHODS[name](bert, batches(1), RATIOS, QUICK)]
    assert [ratio for ratio, _ in sizes] == [*RATIOS]
    for ratio, size in sizes:
        assert 0.7 * dense / ratio < size <= dense / ratio
    assert report_of(bert, TASK, batches(1)).encoder_parameters == sizes[-1][1]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", ["output_error", "magnitude", "taylor", "top_layers"])
def test_which_methods_are_told_the_labels(bert, batches, name, monkeypatch):
    monkeypatch.setattr("axformer_lightning.sweeps.baselines.NORMALIZERS", ("mean",))  # no choice by the loss
    other = copy.deepcopy(bert)
    flipped = [batch | {"labels": (batch["labels"] + 1) % 3} for batch in batches(1)]
    for model, search in ((bert, batches(1)), (other, flipped)):
        list(METHODS[name](model, search, [2.0], QUICK))
    mine, theirs = bert.state_dict(), other.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items()) == (name != "taylor")


@pytest.mark.slow
def test_ours_is_the_product_in_one_chain(bert, batches):
    other, search = copy.deepcopy(bert), batches(1)
    chain = ours(bert, search, RATIOS, QUICK)
    next(chain)
    list(shrink_(other, other, search, Budget({"encoder_size_ratio": RATIOS[0]}, QUICK)))
    plan, values = kept(other)
    assert bert.axformer_plan == plan
    assert all(torch.equal(value, values[name]) for name, value in bert.state_dict().items())
    next(chain)
    for now, before in zip(bert.axformer_plan.layers, plan.layers, strict=True):
        assert {*before.heads_removed} <= {*now.heads_removed} or now.attention == "removed"


@pytest.mark.slow
def test_without_repair_nothing_is_changed_but_what_is_removed(bert, batches):
    before = {name: value.clone() for name, value in bert.named_parameters()}
    list(METHODS["unrepaired"](bert, batches(1), RATIOS, QUICK))
    smaller = 0
    for name, value in bert.named_parameters():
        if value.shape == before[name].shape:
            assert torch.equal(value, before[name]), name
        else:
            smaller += 1
            rows = {tuple(row) for row in before[name].T.tolist()} if "output.dense" in name else set()
            assert "output.dense" not in name or {tuple(row) for row in value.T.tolist()} <= rows
    assert smaller > 0


def test_by_output_error_what_is_left_is_repaired(bert, batches):
    cut, sizes = copy.deepcopy(bert), layer_sizes(bert)
    fixed, now = sum(size.others for size in sizes), count_encoder_parameters(bert)
    _, repair = by_output_error(bert, batches(1), sizes, now / 1.5 - fixed)
    list(METHODS["output_error"](cut, batches(1), [1.5], QUICK))  # one slice
    assert any(name.endswith("bias") for name in repair.values)
    for name, value in repair.values.items():
        assert torch.equal(cut.get_parameter(name), value.float())


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", ["magnitude", "taylor"])
def test_of_two_scales_the_one_with_the_lower_search_loss_is_taken(bert, batches, name, monkeypatch):
    def loss(*normalizers):
        monkeypatch.setattr("axformer_lightning.sweeps.baselines.NORMALIZERS", normalizers)
        small = copy.deepcopy(bert)
        list(METHODS[name](small, batches(1), [1.5], QUICK))  # one slice
        return report_of(small, TASK, batches(1)).loss

    each = loss("mean"), loss(None)
    assert each[0] != each[1]
    assert loss("mean", None) == loss(None, "mean") == min(each)


def test_layers_are_dropped_from_the_top_as_if_they_had_never_been(bert, batches, tiny, logits):
    whole = copy.deepcopy(bert)
    list(top_layers(bert, batches(1), [1.5], QUICK))
    config = copy.deepcopy(whole.config)
    config.num_hidden_layers = 2
    expected = AutoModelForSequenceClassification.from_config(config).eval()
    expected.load_state_dict({name: v for name, v in whole.state_dict().items() if "layer.2." not in name})
    assert bert.config.num_hidden_layers == 2
    assert torch.equal(logits(bert, tiny.batch()), logits(expected, tiny.batch()))


@pytest.mark.parametrize(("ratios", "left"), [([2.95], [1]), ([1.4, 3.0], [2, 1]), ([3.0, 4.0], [1]), ([1.64], [2])])
def test_as_many_layers_stay_as_there_is_room_for_and_a_tenth(bert, batches, ratios, left):
    assert [len(bert.bert.encoder.layer) for _ in top_layers(bert, batches(1), ratios, QUICK)] == left


def test_layers_that_are_in_several_lists_are_refused(tiny, batches):
    with pytest.raises(ValueError, match=r"Expected the layers of a 'albert' model in one list, got .* `top_layers`"):
        next(top_layers(tiny.model("albert"), batches(1), [2.0], QUICK))


def test_slices_are_as_large_as_ours_and_end_where_nothing_is_within_the_budget(bert, batches):
    dense, asked = count_encoder_parameters(bert), []

    def choose(model, search, sizes, budget):
        asked.append(dense / (budget + sum(size.others for size in sizes)))

    assert list(in_slices(bert, batches(1), [2.0, 4.0], QUICK, choose=choose)) == []
    assert asked == [pytest.approx(2**0.5)]


@pytest.mark.slow
def test_search_and_dev_set_are_kept_apart_and_the_model_stays(bert, batches, state):
    bert.train()
    before, search, dev = state(bert), batches(1), batches(2)
    methods = {"first": METHODS["top_layers"], "second": METHODS["output_error"]}
    dense, *results = compare_budgets(bert, TASK, search, dev, ratios=(3, 1.5), methods=methods)
    assert state(bert) == before
    assert (dense.method, dense.ratio, dense.reached, dense.cpu_seconds) == ("dense", 1.0, 1.0, 0.0)
    assert dense.report == report_of(bert, TASK, dev)
    assert dense.searched == report_of(bert, TASK, search)
    assert [(one.method, one.ratio) for one in results] == [(name, r) for name in methods for r in (1.5, 3.0)]
    assert results[0].widths == [[4, 48], [4, 48]]
    for one in results:
        assert one.reached == pytest.approx(dense.report.encoder_parameters / one.report.encoder_parameters)
        assert one.report.loss != one.searched.loss
        assert one.retrained is None
    assert results[3].cpu_seconds >= results[2].cpu_seconds > 0


@pytest.mark.slow
def test_every_model_is_trained_once_more_and_none_goes_on_trained(bert, batches):
    def retrain(model):
        with torch.no_grad():
            model.classifier.bias += torch.tensor([0.0, 0.0, 50.0])

    methods = {name: METHODS[name] for name in ("output_error", "top_layers")}
    dev = batches(2)
    options = {"ratios": RATIOS, "methods": methods}
    found = list(compare_budgets(bert, TASK, batches(1), dev, **options, retrain=retrain))
    plain = list(compare_budgets(bert, TASK, batches(1), dev, **options))
    assert [one.report for one in found] == [one.report for one in plain]
    last = (torch.cat([batch["labels"] for batch in dev]) == 2).double().mean().item()
    assert all(one.retrained.metrics["accuracy"] == pytest.approx(last) for one in found)


def test_what_is_known_is_not_searched_again_unless_a_ratio_is_missing(bert, batches):
    runs = []

    def method(model, search, ratios, effort):
        runs.append(ratios)
        return METHODS["top_layers"](model, search, ratios, effort)

    options = {"ratios": RATIOS, "methods": {"a": method, "b": method}}
    first = list(compare_budgets(bert, TASK, batches(1), batches(2), **options))
    runs.clear()
    again = list(compare_budgets(bert, TASK, batches(1), batches(1), **options, known=first[:-1]))
    assert runs == [[*RATIOS]]  # of b
    assert again[:3] == first[:3]
    assert again[3].report != first[3].report


@pytest.mark.parametrize("ratio", [1.0, 0.5, float("nan"), float("inf"), 1e4])
def test_a_size_that_cannot_be_is_refused_before_anything_runs(bert, batches, ratio):
    with pytest.raises(ValueError, match=r"Expected ratios above 1 and up to \d+.*, got "):
        next(compare_budgets(bert, TASK, batches(1), batches(2), ratios=[2, ratio]))


def test_results_are_read_as_they_were_written(bert, batches):
    methods = {"top_layers": METHODS["top_layers"]}
    for one in compare_budgets(bert, TASK, batches(1), batches(2), ratios=[2], methods=methods):
        assert BudgetResult.of(json.loads(json.dumps(asdict(one)))) == one
