import copy
import re

import lightning as L
import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoModelForTokenClassification

from axformer_lightning.scoring import Scored, score_logits, step_of

pytestmark = pytest.mark.one_implementation

WITH_ADVICE = r".*axformer_step\(self, batch\)"


class Wrapper(L.LightningModule):
    """A user's module around a model."""

    def __init__(self, model, pick=lambda output: output):
        super().__init__()
        self.model, self.pick = model, pick

    def forward(self, input_ids, attention_mask):
        return self.pick(self.model(input_ids=input_ids, attention_mask=attention_mask))


class WithStep(Wrapper):
    def axformer_step(self, batch):
        return torch.full((len(batch["labels"]),), 7.0), batch["labels"], batch["labels"]


class StepOnly(L.LightningModule):
    """Has a step of its own and no forward."""

    def axformer_step(self, batch):
        return torch.zeros(1), None, None


class Mute(L.LightningModule):
    """Has a training step and nothing else."""

    def training_step(self, batch):
        return torch.tensor(0.0)


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def counts(*shape, below):
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(4))


def scored(model, batch):
    with torch.no_grad():
        return step_of(model, model.config.problem_type)(batch)


def own_loss(model, batch):
    with torch.no_grad():
        return model(**batch).loss


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"num_labels": 3}, counts(6, below=3)),
        ({"num_labels": 1}, random(6)),
        ({"num_labels": 1}, random(6, 1)),
        ({"num_labels": 1, "problem_type": "regression"}, random(6)),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, counts(6, 3, below=2).float()),
        ({"num_labels": 12, "problem_type": "multi_label_classification"}, counts(6, 12, below=2).float()),
        ({"num_labels": 3, "problem_type": "regression"}, random(6, 3)),
    ],
    ids=[
        "classes",
        "regression",
        "regression of a column",
        "named regression",
        "multi-label",
        "as many labels as tokens",
        "regression of many",
    ],
)
def test_the_mean_loss_is_the_loss_of_the_model(tiny, family, implementation, batch, settings, labels):
    model = tiny.model(family, implementation, **settings)
    batch["labels"] = labels
    found = scored(model, batch)
    assert found.loss_N.shape == (6,)
    torch.testing.assert_close(found.loss_N.mean(), own_loss(model, batch))


def token_batch(batch):
    targets = counts(*batch["input_ids"].shape, below=3)
    return batch | {"labels": torch.where(batch["attention_mask"] == 1, targets, -100)}


def test_the_loss_of_one_sample_of_tokens_is_the_loss_of_the_model(tiny, family, implementation, batch):
    model = tiny.model(family, implementation, AutoModelForTokenClassification)
    batch = token_batch(batch)
    loss_N = scored(model, batch).loss_N
    for n in range(6):
        torch.testing.assert_close(
            loss_N[n], own_loss(model, {name: value[n : n + 1] for name, value in batch.items()})
        )


@pytest.mark.one_family
def test_predictions_of_tokens_are_those_that_have_a_label(tiny, family, batch):
    model = tiny.model(family, auto=AutoModelForTokenClassification)
    batch = token_batch(batch)
    _, preds, target = scored(model, batch)
    assert preds.shape == target.shape == (int(batch["attention_mask"].sum()),)
    assert torch.equal(target, batch["labels"][batch["attention_mask"] == 1])


@pytest.mark.parametrize("last", [2, 12, 40], ids=["inside", "at the end", "outside the window"])
def test_the_mean_loss_of_answers_is_the_loss_of_the_model(tiny, family, implementation, batch, last):
    model = tiny.model(family, implementation, AutoModelForQuestionAnswering, num_labels=2)
    del batch["labels"]
    batch |= {
        "start_positions": torch.tensor([1, 0, 5, 3, 2, last]),
        "end_positions": torch.tensor([2, 2, 6, 9, 3, last]),
    }
    one = {name: value[:5] for name, value in batch.items()}
    torch.testing.assert_close(scored(model, one).loss_N.mean(), own_loss(model, one))
    outside = last > 11
    torch.testing.assert_close(scored(model, batch).loss_N.sum() / (6 - outside), own_loss(model, batch))
    assert (scored(model, batch).loss_N[5] == 0) == outside


@pytest.mark.parametrize(
    ("logits", "labels", "preds"),
    [
        ([[1.0, 3.0], [2.0, 0.0]], [0, 1], [1, 0]),
        ([[1.5], [-2.0]], [1.0, 2.0], [1.5, -2.0]),
        ([1.5, -2.0], [1, 2], [1.5, -2.0]),
        ([[1.0, -3.0], [-2.0, 4.0]], [[1.0, 0.0], [1.0, 1.0]], [[1, 0], [0, 1]]),
    ],
)
def test_predictions_are_as_torchmetrics_takes_them(logits, labels, preds):
    found = score_logits(torch.tensor(logits), {"labels": torch.tensor(labels)})
    assert found.preds.tolist() == preds
    assert found.target.tolist() == labels


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (random(6, 3), random(6)),
        (random(6, 3), counts(6, 3, below=2)),
        (random(6, 3), random(6, 4)),
        (random(6, 5, 3), counts(6, below=3)),
        (random(6, 5, 3), counts(6, 4, below=3)),
    ],
)
def test_labels_that_do_not_go_with_the_logits_are_refused_with_both_shapes(logits, labels):
    with pytest.raises(ValueError, match=".*".join(re.escape(str(tuple(x.shape))) for x in (logits, labels))):
        score_logits(logits, {"labels": labels})


@pytest.mark.one_family
def test_a_batch_without_labels_is_refused_with_advice(model, batch):
    del batch["labels"]
    with pytest.raises(ValueError, match=r"`labels` in every batch.*\['attention_mask', 'input_ids'\]" + WITH_ADVICE):
        step_of(model)(batch)


@pytest.mark.one_family
def test_answers_without_positions_are_refused_with_advice(tiny, family, batch):
    model = tiny.model(family, auto=AutoModelForQuestionAnswering, num_labels=2)
    with pytest.raises(ValueError, match="`start_positions` and `end_positions`" + WITH_ADVICE):
        step_of(model)(batch)


@pytest.mark.one_family
def test_a_head_mask_is_refused_with_what_to_do_instead(model, batch):
    with pytest.raises(ValueError, match=r"without `head_mask`.*apply_plan_"):
        step_of(model)(batch | {"head_mask": torch.ones(6, 4)})


@pytest.mark.one_family
def test_the_step_of_the_module_goes_before_its_forward(model, batch):
    assert step_of(WithStep(model))(batch).loss_N.tolist() == [7.0] * 6


@pytest.mark.one_family
@pytest.mark.parametrize("pick", [lambda out: out, lambda out: out.logits, lambda out: {"logits": out.logits}])
def test_a_module_is_scored_by_what_its_forward_returns(model, batch, pick):
    torch.testing.assert_close(step_of(Wrapper(model, pick))(batch), step_of(model)(batch))


@pytest.mark.one_family
def test_a_module_may_change_the_logits(model, batch):
    found = step_of(Wrapper(model, lambda out: -out.logits))(batch)
    torch.testing.assert_close(found, score_logits(-model(**batch).logits, batch))


@pytest.mark.one_family
def test_what_the_forward_does_not_take_is_left_out(model, batch):
    batch |= {"idx": torch.arange(6), "token_type_ids": torch.zeros(6, 12, dtype=torch.long)}
    torch.testing.assert_close(
        step_of(Wrapper(model))(batch).loss_N,
        scored(model, {k: batch[k] for k in ("input_ids", "attention_mask", "labels")}).loss_N,
    )


@pytest.mark.one_family
@pytest.mark.parametrize("pick", [lambda out: 1.0, lambda out: out.logits.mean(), lambda out: {"scores": out.logits}])
def test_an_output_without_logits_is_refused_with_advice(model, batch, pick):
    with pytest.raises(TypeError, match="output of Wrapper" + WITH_ADVICE):
        step_of(Wrapper(model, pick))(batch)


def test_a_module_with_neither_step_nor_forward_is_refused_with_advice():
    with pytest.raises(TypeError, match="Mute" + WITH_ADVICE):
        step_of(Mute())


@pytest.mark.one_family
def test_a_module_without_forward_is_scored_through_the_model_with_a_head_in_it(model, batch):
    module = Mute()
    module.anything = model
    torch.testing.assert_close(step_of(module)(batch), step_of(model)(batch))
    module.anything = model.base_model
    with pytest.raises(TypeError, match="Mute to define `forward`, or to hold one Hugging Face model with a head"):
        step_of(module)
    module.anything, module.other = model, copy.deepcopy(model)
    with pytest.raises(TypeError, match="Mute to define `forward`" + WITH_ADVICE):
        step_of(module)


@pytest.mark.one_family
def test_a_step_that_returns_one_loss_for_all_is_refused(model, batch, monkeypatch):
    module = WithStep(model)
    monkeypatch.setattr(module, "axformer_step", lambda batch: (torch.tensor(1.0), None, None))
    with pytest.raises(ValueError, match=r"shape \(N,\), got shape \(\)"):
        step_of(module)(batch)


@pytest.mark.one_family
def test_a_step_may_return_a_plain_triple(model, batch):
    assert isinstance(step_of(WithStep(model))(batch), Scored)


@pytest.mark.one_family
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.bool])
def test_labels_of_any_integer_type_are_labels(batch, dtype):
    labels = batch["labels"].clamp(max=1)
    expected = score_logits(random(6, 3), {"labels": labels})
    found = score_logits(random(6, 3), {"labels": labels.to(dtype)[:, None]})
    torch.testing.assert_close(tuple(found), tuple(expected))
    tokens = score_logits(random(6, 4, 3), {"labels": labels.repeat(4, 1).T.to(dtype)})
    assert tokens.loss_N.isfinite().all()


@pytest.mark.one_family
def test_positions_may_be_a_column(batch):
    logits, spans = (
        (random(6, 12), -random(6, 12)),
        {"start_positions": torch.arange(6), "end_positions": torch.arange(6)},
    )
    columns = {name: value[:, None] for name, value in spans.items()}
    torch.testing.assert_close(tuple(score_logits(logits, columns)), tuple(score_logits(logits, spans)))


@pytest.mark.one_family
@pytest.mark.parametrize("result", [torch.ones(6), {"loss": torch.ones(6)}, (torch.ones(6), None), ([1.0], None, None)])
def test_a_step_that_returns_something_else_is_told_what_to_return(model, batch, monkeypatch, result):
    module = WithStep(model)
    monkeypatch.setattr(module, "axformer_step", lambda batch: result)
    with pytest.raises(TypeError, match="`axformer_step` to return the loss of each sample"):
        step_of(module)(batch)


@pytest.mark.one_family
def test_half_precision_logits_are_scored_in_full_precision(batch):
    logits = random(6, 3).to(torch.bfloat16)
    assert score_logits(logits, batch).loss_N.dtype == torch.float32


ONE_SAMPLE = {
    "tensors": lambda sample: sample,
    "lists": lambda sample: {name: value.tolist() for name, value in sample.items()},
    "a tuple": lambda sample: (sample["input_ids"], sample["attention_mask"], sample["labels"]),
    "no labels": lambda sample: {name: value for name, value in sample.items() if name != "labels"},
}


@pytest.mark.one_family
@pytest.mark.parametrize("form", ONE_SAMPLE.values(), ids=ONE_SAMPLE)
def test_a_single_sample_in_the_place_of_a_batch_is_refused_as_such(model, batch, form):
    sample = {name: batch[name][0] for name in ("input_ids", "attention_mask", "labels")}
    with pytest.raises(ValueError, match=r"Expected batches .* got a single sample.*DataLoader"):
        step_of(Wrapper(model))(form(sample))


@pytest.mark.one_family
def test_a_forward_that_takes_single_samples_is_left_alone(model, batch):
    module = Wrapper(model)
    module.forward = lambda input_ids: torch.zeros(1, 3)
    sample = {"input_ids": batch["input_ids"][0], "labels": batch["labels"][:1]}
    assert step_of(module)(sample).loss_N.shape == (1,)
