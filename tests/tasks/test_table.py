import pytest
import torch

from axformer_lightning.criteria import make_rule
from axformer_lightning.tasks import KINDS, TASKS


@pytest.mark.parametrize("name", TASKS)
def test_every_metric_can_be_decided_by(name):
    task = TASKS[name]
    assert task.kind in KINDS
    for metric in task.metrics():
        assert make_rule("metric", task.metric(metric), 0.5, 0.0).metric.higher_is_better


@pytest.mark.parametrize("name", ["mrpc", "stsb", "squad"])
def test_an_unknown_metric_lists_the_known_ones(name):
    with pytest.raises(
        ValueError, match=r"`task\.headline` to be a metric of the task, \[.*(f1|spearman)'\], got 'bleu'"
    ):
        TASKS[name].metric("bleu")


def test_correlations_are_those_of_the_textbook():
    preds, target = torch.tensor([0.2, 3.0, 1.0, 9.0, 4.0]), torch.tensor([1.0, 2.0, 3.0, 5.0, 4.0])
    values = TASKS["stsb"].collection()(preds, target)
    assert values["pearson"].item() == pytest.approx(torch.corrcoef(torch.stack([preds, target]))[0, 1].item())
    ranks = torch.stack([preds.argsort().argsort(), target.argsort().argsort()]).float()
    assert values["spearman"].item() == pytest.approx(torch.corrcoef(ranks)[0, 1].item())


@pytest.mark.filterwarnings("ignore:The variance of predictions")
def test_constant_predictions_correlate_with_nothing():
    values = TASKS["stsb"].collection()(torch.ones(4), torch.arange(4.0))
    assert {name: value.item() for name, value in values.items()} == {"pearson": 0.0, "spearman": 0.0}


def test_matthews_correlation_is_of_the_four_counts():
    preds, target = torch.tensor([1, 1, 1, 0, 0, 0, 1]), torch.tensor([1, 1, 0, 0, 0, 1, 1])
    true_1, true_0, false_1, false_0 = 3, 2, 1, 1
    product = (true_1 + false_1) * (true_1 + false_0) * (true_0 + false_1) * (true_0 + false_0)
    expected = (true_1 * true_0 - false_1 * false_0) / product**0.5
    assert TASKS["cola"].metric("matthews_correlation")(preds, target).item() == pytest.approx(expected)
