"""The metric that stands beside the loss where a user names none."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy

from axformer_lightning.criteria import LabelAccuracy

LABELS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30)


@given(st.lists(LABELS, min_size=1, max_size=4))
def test_it_is_the_micro_accuracy_of_all_batches(batches):
    ours, reference = LabelAccuracy(), MulticlassAccuracy(3, average="micro")
    for batch in batches:
        preds, target = torch.tensor(batch).unbind(1)
        ours.update(preds, target)
        reference.update(preds, target)
    assert ours.compute().item() == pytest.approx(reference.compute().item())


def test_several_labels_of_a_sample_count_each():
    ours = LabelAccuracy()
    assert ours(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 1], [1, 1]])) == 0.75


@pytest.mark.parametrize(
    ("preds", "target"),
    [
        (torch.tensor([0.5]), torch.tensor([0.5])),
        (torch.tensor([1]), torch.tensor([1.0])),
        (torch.tensor([[0.1, 0.9]]), torch.tensor([1])),
        (torch.tensor([1, 1]), torch.tensor([[1], [1]])),
        ([{"id": "1", "prediction_text": "here"}], [{"id": "1", "answers": ["here"]}]),
    ],
)
def test_what_is_no_label_says_nothing(preds, target):
    ours = LabelAccuracy()
    ours.update(preds, target)
    assert ours.compute() == 0
    ours.update(torch.tensor([1]), torch.tensor([1]))
    assert ours.compute() == 1


def test_one_label_of_many_makes_a_difference():
    ours, target = LabelAccuracy(), torch.zeros(400_000, dtype=torch.long)
    all_but_one = target.clone()
    all_but_one[7] = 1
    values = [ours(all_but_one, target), ours(target, target)]
    assert values[0] < values[1]
