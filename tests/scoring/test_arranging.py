"""Samples are batched by length where that changes no loss, and stay in their batches elsewhere."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForMultipleChoice

from axformer_lightning.scoring import can_rebatch, checked_search_batches, search_batches, shuffled, step_of
from tests.scoring.test_batches import Point, padded, several

pytestmark = [pytest.mark.one_implementation, pytest.mark.one_family]


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (padded([2, 3]), True),
        (OrderedDict(padded([2, 3])), True),
        (tuple(padded([2, 3]).values()), False),
        (Point(torch.ones(2), torch.ones(2)), False),
        ({"input_ids_a": torch.ones(2, 3), "input_ids_b": torch.ones(2, 3)}, False),
        ({"pixel_values": torch.ones(2, 3, 4, 4), "labels": torch.ones(2)}, False),
        (padded([2, 3]) | {"text": ["a", "b"]}, False),
        (padded([2, 3]) | {"weight": torch.tensor(1.0)}, False),
        (padded([2, 3]) | {"weight": torch.ones(3)}, False),
        ({"input_ids": torch.ones(2, 3, 4), "labels": torch.ones(2)}, False),
    ],
)
def test_only_dicts_of_tensors_with_a_row_per_sample_are_rebatched(batch, expected):
    assert can_rebatch(batch) is expected
    found = search_batches(torch.nn.Identity(), iter([batch, batch]), 1)
    assert len(found) == (4 if expected else 2)
    assert expected or all(one is batch for one in found)


def test_one_batch_that_cannot_be_rebatched_keeps_all_as_they_are():
    batches = [padded([2, 3]), padded([2]) | {"weight": torch.tensor(1.0)}]
    assert search_batches(torch.nn.Identity(), batches) == batches


def test_a_step_of_the_module_gets_the_batches_as_they_are():
    module = torch.nn.Identity()
    module.axformer_step = None
    batches = several([[3, 1], [2]])
    assert all(one is other for one, other in zip(search_batches(module, batches, 1), batches, strict=True))


def test_a_step_whose_samples_do_not_depend_on_each_other_gets_batches_by_length():
    module = torch.nn.Identity()
    module.axformer_step, module.axformer_samples_independent = None, True
    assert [len(batch["input_ids"]) for batch in search_batches(module, several([[3, 1], [2]]), 4)] == [2, 1]


class Pooled(nn.Module):
    """Averages over all tokens that it is given; takes a mask or not."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(32, 3)

    def forward(self, input_ids):
        return self.head(self.encoder(input_ids).last_hidden_state.mean(1))


class Deaf(Pooled):
    def forward(self, input_ids, attention_mask=None):
        return super().forward(input_ids)


class DeafToAll(Pooled):
    def forward(self, batch):
        return super().forward(batch["input_ids"])


class Heeding(Pooled):
    def forward(self, batch):
        mask = batch["attention_mask"][..., None]
        hidden = self.encoder(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        return self.head((hidden * mask).sum(1) / mask.sum(1))


def bucket(length, count=3, mask=False):
    """Texts of one length."""
    words = torch.randint(5, 50, (count, length), generator=torch.Generator().manual_seed(length))
    batch = {"input_ids": words, "labels": words[:, 1] % 3}
    return batch | {"attention_mask": torch.ones_like(words)} if mask else batch


def losses(module, batches):
    with torch.no_grad():
        return torch.cat([step_of(module.eval())(batch).loss_N for batch in batches]).sort().values


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("kind", [Pooled, Deaf, DeafToAll])
def test_where_padding_changes_a_loss_the_batches_stay_as_they_are(tiny, kind, mask):
    module = kind(tiny.model("bert", auto=AutoModel))
    batches = [bucket(length, mask=mask) for length in (6, 4, 10, 8)]
    found = search_batches(module, batches)
    assert all(one is other for one, other in zip(found, batches, strict=True))


def test_where_it_is_masked_they_are_batched_by_length(tiny, caplog):
    module = Heeding(tiny.model("bert", auto=AutoModel))
    batches = [bucket(length, mask=True) for length in (6, 4, 10, 8)]
    found = search_batches(module, batches)
    assert len(found) == 1
    torch.testing.assert_close(losses(module, found), losses(module, batches))
    assert not caplog.records


def test_batches_that_stay_for_their_losses_are_named(tiny, caplog):
    search_batches(Deaf(tiny.model("bert", auto=AutoModel)), [bucket(4), bucket(9)])
    assert "losses change by up to" in caplog.text


def test_losses_that_are_no_numbers_say_nothing_of_padding(tiny, caplog):
    model = tiny.model("bert")
    model.classifier.bias.data[:] = torch.nan
    assert len(search_batches(model, [bucket(length, mask=True) for length in (4, 9)])) == 1
    assert not caplog.records


def test_the_comparison_leaves_no_trace(tiny, state):
    module = Heeding(tiny.model("bert", auto=AutoModel)).train()
    before, random = state(module.encoder), torch.get_rng_state()
    search_batches(module, [bucket(4, mask=True), bucket(9, mask=True)])
    assert state(module.encoder) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert module.training


def test_several_choices_stay_as_they_are(tiny):
    model = tiny.model("bert", auto=AutoModelForMultipleChoice)

    def choices(length):
        words = torch.randint(5, 50, (4, 3, length), generator=torch.Generator().manual_seed(length))
        return {"input_ids": words, "attention_mask": torch.ones_like(words), "labels": words[:, 0, 0] % 3}

    batches = [choices(8), choices(12)]
    found = search_batches(model, batches)
    assert all(one is other for one, other in zip(found, batches, strict=True))


@pytest.mark.parametrize(("first", "stay"), [(0, True), (3, False)])
def test_ids_that_are_counted_in_every_batch_stay_in_it(model, first, stay):
    batches = [bucket(5, 6, mask=True), bucket(7, 6, mask=True)]
    for number, batch in enumerate(batches):
        batch["sample_ids"] = number * first + torch.arange(3).repeat_interleave(2)
    found = search_batches(model, batches)
    assert len(losses(model, found)) == 6
    torch.testing.assert_close(losses(model, found), losses(model, batches), rtol=1e-5, atol=1e-5)
    assert (len(found) == 2) == stay


@pytest.mark.parametrize(
    ("widths", "others", "stay"),
    [
        ((6, 6), (6, 6), True),  # along the tokens, or by chance as long
        ((6, 9), (6, 9), True),
        ((6, 9), (6, 6), False),
        ((6, 9), (4, 4), False),
        ((6, 9), (4, 5), True),
    ],
)
def test_nothing_is_cut_or_padded_that_may_not_be_along_the_tokens(model, widths, others, stay):
    batches = [
        bucket(width, mask=True) | {"features": torch.rand(3, other)}
        for width, other in zip(widths, others, strict=True)
    ]
    module = Takes(model)
    found = search_batches(module, batches)
    assert (found[0] is batches[0]) == stay
    assert {batch["features"].shape[1] for batch in found} <= set(others)


MASKS = {  # of which key may be seen by all, and by which query
    "of the keys": lambda mask_NT: mask_NT[:, None, None],
    "of queries and keys": lambda mask_NT: mask_NT[:, None, None] * mask_NT[:, None, :, None],
    "without a dimension of heads": lambda mask_NT: mask_NT[:, None].expand(-1, mask_NT.shape[1], -1),
    "of a prefix, too": lambda mask_NT: torch.cat([torch.ones_like(mask_NT[:, :2]), mask_NT], 1),
}


@pytest.mark.parametrize("form", MASKS)
def test_masks_of_another_shape_than_the_words_stay_with_them(tiny, form):
    batches = [tiny.batch((12, 3, 7)), tiny.batch((12, 5, 4), seed=1)]
    batches = [batch | {"attention_mask": MASKS[form](batch["attention_mask"])} for batch in batches]
    found = search_batches(TakesAnyMask(tiny.model("bert")), batches, 24)
    assert all(one is other for one, other in zip(found, batches, strict=True))


class TakesAnyMask(nn.Module):
    """Needs a mask that is as wide as it was."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        assert attention_mask.shape[-1] >= 12
        return self.model(input_ids).logits


def test_entries_that_some_batches_lack_leave_all_as_they_are(model, tiny):
    batches = [tiny.batch((12, 3, 7)), tiny.batch((5, 4), seed=1)]
    batches[1]["token_type_ids"] = torch.zeros_like(batches[1]["input_ids"])
    assert checked_search_batches(model, model, batches) == batches


class Takes(nn.Module):
    """Takes features beside the words."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, features):
        return self.model(input_ids, attention_mask).logits + features.mean(1, keepdim=True)


def test_lengths_that_a_model_wants_to_be_multiples_of_a_number_stay(tiny):
    chunked = tiny.model("bert", chunk_size_feed_forward=4)
    batches = [tiny.batch((12, 3, 7), seed=0), tiny.batch((8, 5), seed=1)]
    assert checked_search_batches(chunked, chunked, batches) == batches
    assert [len(batch["labels"]) for batch in search_batches(tiny.model("bert"), batches)] == [5]


def test_one_batch_is_no_list_of_batches(model, tiny):
    with pytest.raises(
        ValueError, match=r"Expected a list of batches, got a dict, which is one batch. Pass `\[batch\]`"
    ):
        checked_search_batches(model, model, tiny.batch())


def test_the_order_is_the_same_whatever_device_tensors_are_made_on_by_default():
    order = shuffled(range(20))
    assert sorted(order) == [*range(20)] != order
    with torch.device("meta"):
        assert shuffled(range(20)) == order
