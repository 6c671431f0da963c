from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from itertools import chain, groupby, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForTokenClassification, BatchEncoding
from transformers.modeling_outputs import SequenceClassifierOutput

from axformer_lightning.scoring import batches_by_length, score_logits, to_device

BATCHES = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=4)


def padded(lengths, start=0):
    """A batch whose words and labels tell every sample from every other."""
    mask = (torch.arange(max(lengths) + 2) < torch.tensor(lengths)[:, None]).long()
    labels = torch.arange(start, start + len(lengths))
    return {
        "input_ids": (100 * (labels[:, None] + 1) + torch.arange(mask.shape[1])) * mask,
        "attention_mask": mask,
        "labels": labels,
    }


def several(groups):
    starts = [sum(map(len, groups[:i])) for i in range(len(groups))]
    return [padded(lengths, start) for lengths, start in zip(groups, starts, strict=True)]


def words(batches):
    """The words of every sample, without the padding, by label."""
    return {
        int(batch["labels"][n]): batch["input_ids"][n][batch["attention_mask"][n] == 1].tolist()
        for batch in batches
        for n in range(len(batch["labels"]))
    }


@given(BATCHES, st.integers(1, 30))
def test_every_sample_is_there_once_with_all_its_words(groups, batch_tokens):
    batches = batches_by_length(several(groups), batch_tokens)
    labels = torch.cat([batch["labels"] for batch in batches]).tolist()
    assert sorted(labels) == list(range(sum(map(len, groups))))
    assert words(batches) == words(several(groups))


@given(BATCHES, st.integers(1, 30))
def test_batches_are_full_short_before_long_and_no_wider_than_their_longest(groups, batch_tokens):
    batches = batches_by_length(several(groups), batch_tokens)
    lengths = [batch["attention_mask"].sum(1).tolist() for batch in batches]
    assert list(chain(*lengths)) == sorted(chain(*groups))
    assert [max(found) for found in lengths] == [batch["input_ids"].shape[1] for batch in batches]
    assert all(len(found) == 1 or len(found) * max(found) <= batch_tokens for found in lengths)
    assert all((len(found) + 1) * following[0] > batch_tokens for found, following in pairwise(lengths))


@given(BATCHES, st.integers(1, 30), st.integers(1, 5))
def test_rows_of_one_sample_stay_together(groups, batch_tokens, num_samples):
    batches = several(groups)
    for batch in batches:
        batch["sample_ids"] = batch["labels"] % num_samples
    found = batches_by_length(batches, batch_tokens)
    assert words(found) == words(batches)
    ids = [batch["sample_ids"].tolist() for batch in found]
    adjacent = [number for number, _ in groupby(chain(*ids))]
    assert len(adjacent) == len(set(adjacent))
    assert all(set(one).isdisjoint(other) for one, other in pairwise(ids))
    for batch in found:
        assert batch["input_ids"].numel() <= batch_tokens or len(set(batch["sample_ids"].tolist())) == 1
    longest = dict.fromkeys(adjacent, 0)
    for length, number in zip(chain(*groups), range(10**6), strict=False):
        longest[number % num_samples] = max(longest[number % num_samples], length)
    assert [longest[number] for number in adjacent] == sorted(longest.values())


def test_samples_of_one_length_keep_their_order():
    labels = torch.cat([batch["labels"] for batch in batches_by_length(several([[3, 2, 3], [2, 3]]), 6)])
    assert labels.tolist() == [1, 3, 0, 2, 4]


def test_only_trailing_padding_goes():
    mask = torch.tensor([[0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]])
    first, second = batches_by_length([{"input_ids": torch.arange(12).view(2, 6), "attention_mask": mask}], 4)
    assert (first["attention_mask"].tolist(), first["input_ids"].tolist()) == ([[0, 0, 1]], [[6, 7, 8]])
    assert second["attention_mask"].tolist() == [[0, 1, 0, 1]]


def test_shorter_samples_are_padded_with_the_given_token():
    (batch,) = batches_by_length([padded([1, 3])], pad_token_id=9)
    assert batch["input_ids"].tolist() == [[100, 9, 9], [200, 201, 202]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]


def test_without_a_mask_every_token_counts():
    batches = [{"input_ids": torch.tensor([[5, 0]])}, {"input_ids": torch.tensor([[5, 6, 7]])}]
    (batch,) = batches_by_length(batches)
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


def test_token_labels_are_stripped_with_their_tokens_and_padded_with_what_losses_ignore():
    batch = padded([1, 3]) | {"labels": torch.tensor([[7, -100, -100, -100, -100], [4, 5, 6, -100, -100]])}
    (found,) = batches_by_length([batch])
    assert found["labels"].tolist() == [[7, -100, -100], [4, 5, 6]]


@pytest.mark.parametrize("name", ["label_ids", "targets", "y"])
def test_labels_under_another_name_are_labels(name):
    batch = padded([1, 3]) | {name: torch.tensor([[7, -100, -100, -100, -100], [4, 5, 6, -100, -100]])}
    (found,) = batches_by_length([batch])
    assert found[name].tolist() == [[7, -100, -100], [4, 5, 6]]
    numbers = torch.rand(2, 5)
    assert torch.equal(batches_by_length([batch | {name: numbers}])[0][name], numbers)


@pytest.mark.parametrize("width", [3, 5, 7])
def test_multi_label_targets_are_not_stripped_even_where_they_are_as_wide_as_the_tokens(width):
    batch = padded([1, 3])
    assert batch["input_ids"].shape[1] == 5
    batch["labels"] = torch.rand(2, width)
    (found,) = batches_by_length([batch])
    assert torch.equal(found["labels"], batch["labels"])


def test_what_follows_the_tokens_is_stripped_and_padded_with_zeros():
    batch = padded([1, 3]) | {
        "token_type_ids": torch.ones(2, 5, dtype=torch.long),
        "inputs_embeds": torch.ones(2, 5, 4),
    }
    (found,) = batches_by_length([batch])
    assert found["token_type_ids"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert found["inputs_embeds"].shape == (2, 3, 4)


def test_embedded_words_can_take_the_place_of_words():
    batch = {"inputs_embeds": torch.rand(2, 4, 8), "attention_mask": torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]])}
    first, second = batches_by_length([batch], 1)
    assert torch.equal(first["inputs_embeds"], batch["inputs_embeds"][1:, :1])
    assert torch.equal(second["inputs_embeds"], batch["inputs_embeds"][:1, :2])


def test_a_sample_of_nothing_but_padding_keeps_its_mask():
    batch = {"input_ids": torch.tensor([[0, 0], [5, 0]]), "attention_mask": torch.tensor([[0, 0], [1, 0]])}
    first, second = batches_by_length([batch], 1)
    assert (first["attention_mask"].tolist(), second["attention_mask"].tolist()) == ([[1]], [[0, 0]])


def test_batches_of_other_things_than_tokens_are_only_rebatched():
    batches = batches_by_length([{"x": torch.arange(5), "labels": torch.arange(5)}], 2)
    assert [batch["x"].tolist() for batch in batches] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("batches", [[], [{}], [{"input_ids": torch.ones(0, 4, dtype=torch.long)}]])
def test_a_search_set_without_samples_is_refused(batches):
    with pytest.raises(ValueError, match="at least one sample, got an empty one"):
        batches_by_length(batches)


def test_tensors_of_different_numbers_of_rows_are_named():
    with pytest.raises(ValueError, match=r"'input_ids': 2, .*'labels': 3"):
        batches_by_length([padded([2, 2]) | {"labels": torch.zeros(3)}])


@pytest.mark.parametrize("name", ["labels", "token_type_ids"])
@pytest.mark.parametrize("lengths", [(2, 4), (4, 2)])
def test_an_entry_that_only_some_batches_have_is_named(name, lengths):
    both = [padded([length]) | {"token_type_ids": torch.ones(1, length + 2, dtype=torch.long)} for length in lengths]
    del both[0][name]
    with pytest.raises(ValueError, match=name):
        batches_by_length(both)


def test_the_batches_of_the_caller_are_not_changed():
    batch = padded([1, 3])
    before = {name: (id(value), value.clone()) for name, value in batch.items()}
    for found in batches_by_length([batch], 1):
        for value in found.values():
            value.zero_()
    assert list(batch) == list(before)
    assert all(id(batch[name]) == at and torch.equal(batch[name], value) for name, (at, value) in before.items())


def losses(model, batches, logits):
    found = [
        (
            batch["position"],
            score_logits(logits(model, {k: v for k, v in batch.items() if k != "position"}), batch).loss_N,
        )
        for batch in batches
    ]
    order = torch.cat([position for position, _ in found])
    return torch.cat([loss_N for _, loss_N in found])[order.argsort()]


@pytest.mark.parametrize("batch_tokens", [1, 16, 1024])
def test_losses_are_those_of_the_padded_batch(model, batch, logits, batch_tokens):
    batch["position"] = torch.arange(len(batch["labels"]))
    rebatched = batches_by_length([batch], batch_tokens, model.config.pad_token_id)
    torch.testing.assert_close(losses(model, rebatched, logits), losses(model, [batch], logits), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 16])
def test_token_losses_are_those_of_the_padded_batch(tiny, family, implementation, batch, logits, batch_tokens):
    model = tiny.model(family, implementation, AutoModelForTokenClassification)
    targets = torch.randint(0, 3, batch["input_ids"].shape, generator=torch.Generator().manual_seed(1))
    batch |= {"position": torch.arange(6), "labels": torch.where(batch["attention_mask"] == 1, targets, -100)}
    rebatched = batches_by_length([batch], batch_tokens, model.config.pad_token_id)
    torch.testing.assert_close(losses(model, rebatched, logits), losses(model, [batch], logits), rtol=1e-5, atol=1e-5)


Point = namedtuple("Point", "x, label")


@dataclass(frozen=True)
class Item:
    x: torch.Tensor
    more: object = None


@pytest.mark.parametrize(
    ("make", "look"),
    [
        (lambda x: x, lambda batch: batch),
        (lambda x: {"x": x, "text": "a"}, lambda batch: batch["x"]),
        (lambda x: OrderedDict(x=[x]), lambda batch: batch["x"][0]),
        (lambda x: (1, {"x": (x,)}), lambda batch: batch[1]["x"][0]),
        (lambda x: Point(x, None), lambda batch: batch.x),
        (lambda x: Item(torch.ones(1), [Item(x)]), lambda batch: batch.more[0].x),
        (lambda x: BatchEncoding({"x": x}), lambda batch: batch.x),
        (lambda x: SequenceClassifierOutput(logits=x), lambda batch: batch.logits),
    ],
)
def test_tensors_are_moved_wherever_they_are_and_the_original_stays(make, look):
    batch = make(torch.ones(2))
    moved = to_device(batch, torch.device("meta"))
    assert type(moved) is type(batch)
    assert look(moved).device.type == "meta"
    assert look(batch).device.type == "cpu"
