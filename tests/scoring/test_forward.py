"""Every shape of batch with every shape of forward, against logits computed by hand."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from transformers import BatchEncoding

from axformer_lightning.scoring import score_logits, step_of
from axformer_lightning.scoring.forward import run_forward

pytestmark = pytest.mark.one_implementation

WITH_ADVICE = r".*axformer_step\(self, batch\)"
WEIGHT = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
A, B, Y = torch.rand(5, 4), torch.rand(5, 4), torch.tensor([0, 2, 1, 1, 0])
Pair = namedtuple("Pair", "a, b, target")


@dataclass(frozen=True)
class Item:
    a: Tensor
    b: Tensor
    label: Tensor
    weight: Tensor | None = None


def logits_of(a, b):
    return (a - 2 * b) @ WEIGHT


class Named(nn.Module):
    def forward(self, a, b):
        return logits_of(a, b)


class Swapped(nn.Module):
    def forward(self, b, a, unused=None):
        return logits_of(a, b)


class Open(nn.Module):
    def forward(self, **entries):
        assert not {"labels", "label", "target", "y", "sample_ids"} & set(entries)
        return logits_of(entries["a"], entries["b"])


class Whole(nn.Module):
    def forward(self, batch, stage="fit"):
        assert isinstance(batch, dict | BatchEncoding | Pair | Item)
        values = {"a": batch.a, "b": batch.b} if isinstance(batch, Pair | Item) else batch
        return logits_of(values["a"], values["b"])


class AsksForLabels(nn.Module):
    def forward(self, a, b, labels=None, label=None, target=None):
        logits, labels = logits_of(a, b), next(x for x in (labels, label, target) if x is not None)
        return nn.functional.cross_entropy(logits, labels), logits


class Positional(nn.Module):
    def forward(self, first, second):
        return logits_of(first, second)


class AnyNumber(nn.Module):
    def forward(self, *inputs):
        return logits_of(*inputs)


class WholeTuple(nn.Module):
    def forward(self, batch):
        a, b, _ = batch
        return logits_of(a, b)


class OneDict(nn.Module):
    def forward(self, inputs):
        return logits_of(inputs["a"], inputs["b"])


NAMED = {
    "dict": {"a": A, "b": B, "labels": Y},
    "with more entries": {"a": A, "b": B, "labels": Y, "index": torch.arange(5), "text": list("abcde")},
    "encoding": BatchEncoding({"a": A, "b": B, "labels": Y}),
    "ordered": OrderedDict(a=A, b=B, labels=Y),
    "named tuple": Pair(A, B, Y),
    "dataclass": Item(A, B, Y),
}
PLAIN = {"tuple": (A, B, Y), "list": [A, B, Y]}


def expected():
    return score_logits(logits_of(A, B), {"labels": Y})


@pytest.mark.parametrize("batch", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("module", [Named, Swapped, Open, Whole, AsksForLabels])
def test_named_batches_are_passed_as_forward_takes_them(module, batch):
    torch.testing.assert_close(step_of(module())(batch), expected())


@pytest.mark.parametrize("batch", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("module", [Named, Positional, AnyNumber, WholeTuple])
def test_tuples_end_with_their_labels(module, batch):
    torch.testing.assert_close(step_of(module())(batch), expected())


@pytest.mark.parametrize("module", [Named, Swapped, Open, OneDict])
def test_a_dict_in_a_tuple_is_passed_by_its_names(module):
    torch.testing.assert_close(step_of(module())(({"a": A, "b": B}, Y)), expected())


def test_sample_ids_in_the_dict_of_a_tuple_count():
    ids = torch.tensor([3, 3, 3, 3, 1])
    found = step_of(Named())(({"a": A, "b": B, "sample_ids": ids}, Y))
    torch.testing.assert_close(found.loss_N, torch.stack([expected().loss_N[:4].mean(), expected().loss_N[4]]))


def test_labels_and_sample_ids_go_to_those_who_name_them():
    class Greedy(nn.Module):
        def forward(self, a, y, sample_ids, **others):
            return a @ WEIGHT + y[:, None] + sample_ids[:, None]

    output, entries = run_forward(Greedy(), {"a": A, "b": B, "y": Y, "sample_ids": Y})
    torch.testing.assert_close(output, A @ WEIGHT + 2 * Y[:, None])
    assert set(entries) == {"a", "b", "y", "sample_ids"}


def test_a_hugging_face_model_makes_no_loss(tiny, family, batch):
    output, _ = run_forward(tiny.model(family), batch)
    assert output.loss is None


def test_a_hugging_face_model_takes_tuples(model, batch):
    parts = (batch["input_ids"], batch["attention_mask"], batch["labels"])
    torch.testing.assert_close(step_of(model)(parts).loss_N, step_of(model)(batch).loss_N)


def returning(make):
    class Returns(nn.Module):
        def forward(self, a, b):
            return make(logits_of(a, b))

    return Returns()


Output = namedtuple("Output", "loss, logits")


@pytest.mark.parametrize(
    "make",
    [
        lambda logits: (torch.tensor(1.0), logits),
        lambda logits: (logits, None),
        lambda logits: [logits],
        lambda logits: (None, torch.tensor(1.0), logits, None),
        lambda logits: Output(torch.tensor(1.0), logits),
        lambda logits: {"logits": logits, "hidden": 2 * logits},
    ],
)
def test_logits_are_found_among_other_things(make):
    torch.testing.assert_close(step_of(returning(make))(NAMED["dict"]), expected())


@pytest.mark.parametrize("with_loss", [False, True])
def test_two_tensors_are_a_span_where_the_batch_has_its_positions(with_loss):
    batch = {"a": A, "b": B, "start_positions": Y, "end_positions": Y}
    module = returning(lambda logits: (torch.tensor(0.0),) * with_loss + (logits, 2 * logits))
    torch.testing.assert_close(step_of(module)(batch), score_logits((logits_of(A, B), 2 * logits_of(A, B)), batch))


@pytest.mark.parametrize(
    ("make", "came"),
    [
        (lambda logits: logits.mean(), r"a tensor of shape \(\)"),
        (lambda logits: {"loss": logits.mean()}, r"dict\['loss'\]"),
        (lambda logits: (logits.mean(), None), r"tuple of \['a tensor of shape \(\)', 'NoneType'\]"),
        (lambda logits: (logits, logits), "tuple of"),
        (lambda logits: (logits, (logits,)), "tuple of"),
        (lambda logits: None, "NoneType"),
    ],
)
def test_outputs_without_clear_logits_are_refused_with_what_came(make, came):
    with pytest.raises(TypeError, match=f"{came}.*; a mean loss alone gives no per-sample losses" + WITH_ADVICE):
        step_of(returning(make))(NAMED["dict"])


@pytest.mark.parametrize(
    ("batch", "came"),
    [
        (A, "got Tensor"),
        ((A,), r"got \['Tensor'\]"),
        ([{"a": A}, {"b": B}], r"got \['dict', 'dict'\]"),
        ("a", "got str"),
    ],
)
def test_a_batch_that_shows_no_labels_is_refused_with_what_came(batch, came):
    with pytest.raises(TypeError, match=came + WITH_ADVICE):
        step_of(Named())(batch)


@pytest.mark.parametrize(
    ("module", "batch", "message"),
    [
        (Named(), {"a": A, "labels": Y}, r"`Named.forward` takes, \['b'\], got \['a', 'labels'\]"),
        (Positional(), {"a": A, "b": B, "labels": Y}, r"\['first', 'second'\], got \['a', 'b', 'labels'\]"),
        (Named(), {"a": A, "b": B}, r"`labels` in every batch.*got \['a', 'b'\]"),
        (Positional(), (A, B, A, Y), r"`Positional.forward` to take the 3 inputs .*got forward\(first, second\)"),
    ],
)
def test_a_batch_that_forward_does_not_take_is_refused_with_both(module, batch, message):
    with pytest.raises(ValueError, match=message + WITH_ADVICE):
        step_of(module)(batch)


class OwnStep(nn.Module):
    axformer_losses_nonnegative = False

    def axformer_step(self, batch):
        return batch, None, None


def test_a_negative_loss_is_an_error_only_where_there_was_to_be_none():
    module, loss_N = OwnStep(), torch.tensor([1.0, -0.5])
    assert torch.equal(step_of(module)(loss_N).loss_N, loss_N)
    module.axformer_losses_nonnegative = True
    assert torch.equal(step_of(module)(loss_N.abs()).loss_N, loss_N.abs())
    with pytest.raises(ValueError, match=r"`axformer_losses_nonnegative = True` says, got -0\.5"):
        step_of(module)(loss_N)
