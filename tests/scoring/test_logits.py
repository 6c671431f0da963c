import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from axformer_lightning.scoring import per_sample, score_logits

ROWS = st.lists(st.tuples(st.integers(-3, 3), st.floats(-5, 5, width=32)), min_size=1, max_size=12)


@given(ROWS)
def test_the_loss_of_a_sample_is_the_mean_over_its_rows_in_order_of_first_appearance(rows):
    losses = {}
    for number, loss in rows:
        losses.setdefault(number, []).append(loss)
    expected = torch.tensor([sum(found) / len(found) for found in losses.values()])
    ids_W, loss_W = torch.tensor([number for number, _ in rows]), torch.tensor([loss for _, loss in rows])
    torch.testing.assert_close(per_sample(loss_W, ids_W), expected)


def test_a_loss_that_is_no_number_stays_with_its_sample():
    assert per_sample(torch.tensor([1.0, torch.nan, torch.inf]), torch.tensor([1, 2, 3])).isfinite().tolist() == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("ids", [torch.tensor([1, 2]), torch.tensor([[1], [2], [3]]), torch.tensor([1.0, 2.0, 3.0])])
def test_sample_ids_that_are_not_one_integer_for_each_row_are_refused(ids):
    with pytest.raises(ValueError, match=f"`sample_ids`.* 3 rows of a batch, got {ids.dtype} of shape"):
        per_sample(torch.zeros(3), ids)


def test_rows_of_one_sample_have_one_loss_and_predictions_of_their_own():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    rows = score_logits(logits, {"labels": labels})
    found = score_logits(logits, {"labels": labels, "sample_ids": torch.tensor([8, 5, 8, 8])})
    torch.testing.assert_close(found.loss_N, torch.stack([rows.loss_N[[0, 2, 3]].mean(), rows.loss_N[1]]))
    assert torch.equal(found.preds, rows.preds)
    assert torch.equal(found.target, rows.target)


def test_the_windows_of_a_question_are_one_sample():
    batch = {name: torch.tensor([1, 9, 2]) for name in ("start_positions", "end_positions")}
    logits = (torch.randn(3, 5), torch.randn(3, 5))
    rows = score_logits(logits, batch).loss_N
    found = score_logits(logits, batch | {"sample_ids": torch.tensor([4, 4, 6])}).loss_N
    torch.testing.assert_close(found, torch.stack([rows[:2].mean(), rows[2]]))


@pytest.mark.parametrize("name", ["labels", "label", "label_ids", "targets", "target", "y"])
def test_labels_may_have_any_of_the_usual_names(name):
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(
        score_logits(logits, {name: labels, "x": labels}), score_logits(logits, {"labels": labels})
    )


def test_labels_under_two_names_are_refused_with_both():
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"exactly one of the names .*, got label and y among"):
        score_logits(torch.randn(2, 3), {"y": labels, "label": labels})


UNLABELLED = torch.tensor([0, -100, 2, 1, -100])


@pytest.mark.parametrize("labels", [UNLABELLED, UNLABELLED[:, None]], ids=["labels", "column"])
def test_a_sample_without_a_class_does_not_count(labels):
    logits, real = torch.randn(5, 3), torch.tensor([0, 2, 3])
    found, expected = score_logits(logits, {"labels": labels}), score_logits(logits[real], {"labels": labels[real]})
    torch.testing.assert_close(tuple(found), tuple(expected))
    torch.testing.assert_close(found.mean, functional.cross_entropy(logits, UNLABELLED))
    assert torch.equal(found.logits, logits[real])
    assert found.counted.tolist() == [True, False, True, True, False]
    assert expected.counted.all()


def test_a_sample_without_any_labelled_token_does_not_count():
    logits, labels = torch.randn(3, 4, 5), torch.tensor([[1, -100, 3, 4], [-100] * 4, [-100, 0, -100, -100]])
    found = score_logits(logits, {"labels": labels})
    torch.testing.assert_close(tuple(found), tuple(score_logits(logits[[0, 2]], {"labels": labels[[0, 2]]})))
    torch.testing.assert_close(found.mean, functional.cross_entropy(logits.flatten(0, 1), labels.flatten()))


def test_a_row_without_a_class_is_no_row_of_its_sample():
    logits, ids = torch.randn(5, 3), torch.tensor([7, 7, 8, 7, 9])
    found = score_logits(logits, {"labels": UNLABELLED, "sample_ids": ids})
    rows = functional.cross_entropy(logits, UNLABELLED, reduction="none")
    torch.testing.assert_close(found.loss_N, torch.stack([rows[[0, 3]].mean(), rows[2]]))


def test_a_number_may_be_minus_a_hundred():
    found = score_logits(torch.zeros(2, 1), {"labels": torch.tensor([-100, 1])})
    assert found.loss_N.tolist() == [10000.0, 1.0]


def test_a_batch_in_which_nothing_counts_has_no_losses():
    found = score_logits(torch.randn(2, 3), {"labels": torch.tensor([-100, -100])})
    assert [len(part) for part in found] == [0, 0, 0]
