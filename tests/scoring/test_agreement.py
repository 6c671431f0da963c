"""What the search scores is what the module learns, or it is refused."""

import logging
import re

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchmetrics import MeanMetric
from transformers import AutoModel, AutoModelForQuestionAnswering, AutoModelForTokenClassification

from axformer_lightning import find_plan
from axformer_lightning.scoring import check_agreement, score_logits

pytestmark = [pytest.mark.one_implementation, pytest.mark.one_family]


class Learns(L.LightningModule):
    """Learns by any loss; its head has any number of outputs."""

    def __init__(self, encoder, loss, outputs=3, last=lambda logits: logits):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(32, outputs)
        self.loss, self.last = loss, last

    def forward(self, input_ids, attention_mask):
        hidden = self.encoder(input_ids, attention_mask).last_hidden_state
        return self.last(self.head(hidden[:, 0]).squeeze(-1))

    def training_step(self, batch, batch_idx):
        return self.loss(self(batch["input_ids"], batch["attention_mask"]), batch["labels"])


def focal(logits, labels):
    loss_N = functional.cross_entropy(logits, labels, reduction="none")
    return ((1 - (-loss_N).exp()) ** 2 * loss_N).mean()


def binary(logits, labels):
    return functional.binary_cross_entropy_with_logits(logits, labels.clamp(max=1).float())


def several(logits, labels):
    return functional.binary_cross_entropy(logits, labels)


OTHER_LOSSES = {
    "label smoothing": ({"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, None),
    "class weights": ({"loss": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]))}, None),
    "focal": ({"loss": focal}, None),
    "sum": ({"loss": nn.CrossEntropyLoss(reduction="sum")}, None),
    "padding label": ({"loss": nn.CrossEntropyLoss(ignore_index=2)}, None),
    "one logit": ({"loss": binary, "outputs": 1}, lambda labels: labels.clamp(max=1)),
    "one logit and floats": ({"loss": binary, "outputs": 1}, lambda labels: labels.clamp(max=1).float()),
    "soft labels of one logit": ({"loss": binary, "outputs": 1}, lambda labels: labels.float() / 2),
    "probabilities": ({"loss": several, "last": torch.sigmoid}, lambda labels: functional.one_hot(labels, 3).float()),
    "soft labels": ({"loss": nn.CrossEntropyLoss()}, lambda labels: functional.one_hot(labels, 3) * 0.8 + 0.1),
}


@pytest.fixture
def encoder(tiny):
    return tiny.model("bert", auto=AutoModel)


@pytest.fixture
def labelled(batch):
    """The batch with labels of every class."""
    return batch | {"labels": torch.tensor([0, 1, 2, 2, 1, 0])}


@pytest.mark.parametrize(("settings", "change"), OTHER_LOSSES.values(), ids=OTHER_LOSSES)
def test_another_loss_is_refused_with_both_numbers_and_the_way_out(encoder, labelled, settings, change):
    labelled["labels"] = change(labelled["labels"]) if change else labelled["labels"]
    module = Learns(encoder, **settings)
    said = f"{module.eval().training_step(labelled, 0).item():.6g}"
    with pytest.raises(
        ValueError, match=rf"a mean .* of \d.*`training_step` returns {re.escape(said)}\. .*axformer_step"
    ):
        find_plan(module, [labelled])


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        ({"loss": nn.CrossEntropyLoss()}, None),
        ({"loss": nn.NLLLoss(), "last": lambda logits: logits.log_softmax(-1)}, None),
        ({"loss": nn.MSELoss(), "outputs": 1}, lambda labels: labels.float()),
        ({"loss": nn.MSELoss(), "outputs": 1}, lambda labels: labels.float() / 2),
        ({"loss": nn.BCEWithLogitsLoss()}, lambda labels: functional.one_hot(labels, 3).float()),
    ],
)
def test_the_same_loss_passes_without_a_word(encoder, labelled, caplog, settings, change):
    labelled["labels"] = change(labelled["labels"]) if change else labelled["labels"]
    assert len(check_agreement(Learns(encoder, **settings), [labelled])) == 1
    assert not caplog.records


@pytest.mark.parametrize("auto", [AutoModelForTokenClassification, AutoModelForQuestionAnswering])
def test_a_mean_over_all_tokens_is_no_other_loss(tiny, batch, caplog, auto):
    labels = torch.randint(0, 2, batch["input_ids"].shape, generator=torch.Generator().manual_seed(1))
    spans = {"start_positions": torch.arange(6), "end_positions": torch.tensor([3, 2, 40, 5, 6, 7])}
    tokens = {"labels": torch.where(batch["attention_mask"] == 1, labels, -100)}
    del batch["labels"]
    batch |= tokens if auto is AutoModelForTokenClassification else spans
    check_agreement(tiny.model("bert", auto=auto, num_labels=2), [batch])
    assert not caplog.records


class Returns(nn.Module):
    """Returns its loss beside the logits, where it is given labels."""

    def __init__(self, model, smoothing):
        super().__init__()
        self.model, self.smoothing = model, smoothing

    def forward(self, input_ids, attention_mask, labels=None):
        logits = self.model(input_ids, attention_mask).logits
        return functional.cross_entropy(logits, labels, label_smoothing=self.smoothing), logits


def test_a_model_that_returns_another_loss_is_refused(model, batch, caplog):
    with pytest.raises(ValueError, match="the output of Returns holds"):
        find_plan(Returns(model, 0.2), [batch])
    check_agreement(Returns(model, 0.0), [batch])
    assert not caplog.records


def test_where_nothing_is_said_one_line_tells_what_is_scored(encoder, labelled, caplog):
    module = Learns(encoder, loss=lambda logits, labels: None)
    check_agreement(module, [labelled])
    (line,) = caplog.messages
    assert "by the mean cross-entropy, " in line


def test_a_step_that_fails_in_a_trial_is_named(encoder, labelled, caplog):
    module = Learns(encoder, loss=lambda logits, labels: logits.mean().backward())
    check_agreement(module, [labelled])
    assert "`training_step` raises RuntimeError in a trial" in caplog.text


@pytest.mark.parametrize("dtype", [torch.long, torch.float])
def test_one_logit_of_which_nothing_is_said_is_refused(encoder, labelled, dtype):
    labelled["labels"] = labelled["labels"].clamp(max=1).to(dtype)
    with pytest.raises(ValueError, match=r"what the one logit of Learns stands for.*axformer_step"):
        check_agreement(Learns(encoder, loss=lambda logits, labels: None, outputs=1), [labelled])


@pytest.mark.parametrize(
    "step",
    [
        lambda batch: (torch.ones(6), batch["labels"], batch["labels"]),
        lambda batch: score_logits(torch.zeros(6, 3), batch),
    ],
    ids=["a triple", "with logits"],
)
def test_a_module_that_says_its_losses_itself_is_not_compared(encoder, labelled, caplog, step):
    module = Learns(encoder, loss=focal)
    module.axformer_step = step
    assert len(check_agreement(module, [labelled])) == 1
    assert not caplog.records


def test_small_batches_are_compared_until_there_are_enough_samples(encoder, labelled):
    rows = [{name: value[[n]] for name, value in labelled.items()} for n in range(6)]
    settings, _ = OTHER_LOSSES["padding label"]
    with pytest.raises(ValueError, match="`training_step` returns"):
        check_agreement(Learns(encoder, **settings), [rows[0], rows[1], rows[2]])
    assert len(check_agreement(Learns(encoder, nn.CrossEntropyLoss()), rows * 5)) == 16


class ByHand(Learns):
    """Trains by hand, and logs its loss in validation."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        raise AssertionError

    def validation_step(self, batch, batch_idx, dataloader_idx):
        self.log_dict({"accuracy": 0.5, "val_loss": super().training_step(batch, batch_idx)})


def test_a_metric_that_is_logged_says_the_loss_of_the_batch(encoder, labelled, caplog):
    class Logs(Learns):
        def validation_step(self, batch, batch_idx):
            logits = self(batch["input_ids"], batch["attention_mask"])
            self.mean(functional.cross_entropy(logits, batch["labels"]))
            self.log("val/loss", self.mean)

    module = Logs(encoder, nn.CrossEntropyLoss(label_smoothing=0.1))
    module.mean = MeanMetric()
    module.mean(100.0)  # of another batch
    check_agreement(module, [labelled])
    assert "as `validation_step`; but `training_step` returns" in caplog.text


@pytest.mark.parametrize(("loss", "refused"), [(nn.CrossEntropyLoss(), False), (focal, True)])
def test_a_module_that_trains_by_hand_is_asked_what_it_logs(encoder, labelled, loss, refused):
    module = ByHand(encoder, loss)
    if refused:
        with pytest.raises(ValueError, match="`validation_step` logs 'val_loss'"):
            check_agreement(module, [labelled])
    else:
        check_agreement(module, [labelled])


class Smoothed(Learns):
    """Learns by a smoothed loss, and is validated by the plain one."""

    def validation_step(self, batch, batch_idx):
        return {"loss": functional.cross_entropy(self(batch["input_ids"], batch["attention_mask"]), batch["labels"])}


def test_the_loss_of_validation_counts_and_the_other_is_named(encoder, labelled, caplog):
    check_agreement(Smoothed(encoder, nn.CrossEntropyLoss(label_smoothing=0.1)), [labelled])
    (line,) = caplog.messages
    assert "as `validation_step` returns does" not in line
    assert "`training_step` returns" in line


class Traces(Learns):
    """Changes its weights, its batch and itself in a step."""

    def training_step(self, batch, batch_idx):
        self.calls = getattr(self, "calls", 0) + 1
        loss = super().training_step(batch, batch_idx)
        batch.pop("labels")
        batch["input_ids"].zero_()
        self.head.weight.data.zero_()
        return loss


def test_the_check_leaves_no_trace(encoder, labelled, state):
    module = Traces(encoder, nn.CrossEntropyLoss()).train()
    before, words = module.head.weight.clone(), labelled["input_ids"].clone()
    seen = state(encoder)
    check_agreement(module, [labelled])
    assert torch.equal(module.head.weight, before)
    assert torch.equal(labelled["input_ids"], words)
    assert module.training
    assert not hasattr(module, "calls")
    assert state(encoder)["values"] == seen["values"]
    assert module.encoder.config.problem_type is None


def test_a_loss_that_is_not_finite_is_refused_before_training(encoder, labelled):
    module = Learns(encoder, nn.CrossEntropyLoss())
    module.head.weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"finite losses on the search set, got nan .* on its first batches"):
        check_agreement(module, [labelled])


def test_a_metric_that_cannot_move_is_named(encoder, labelled, caplog):
    labelled["labels"] = labelled["labels"].float()
    module = Learns(encoder, nn.MSELoss(), outputs=1)
    with caplog.at_level(logging.WARNING):
        find_plan(module, [labelled], criterion="loss_and_metric", neuron_groups=1)
    assert "LabelAccuracy was 0 with every candidate" in caplog.text


def test_a_module_that_agrees_runs_twice_for_the_first_batch_and_never_again(tiny):
    """Once as it is scored, and once as it learns: what the scoring of two batches costs, at most."""
    module = Learns(tiny.model("bert", auto=AutoModel), functional.cross_entropy)
    runs = []
    module.encoder.register_forward_hook(lambda *_: runs.append(1))
    check_agreement(module, [tiny.batch((9,) * 16, seed=seed) for seed in range(3)])
    assert len(runs) == 2


def test_a_module_learns_by_what_has_a_label(tiny):
    module = Learns(tiny.model("bert", auto=AutoModel), nn.CrossEntropyLoss())
    batches = [tiny.batch((5, 7, 4, 9), seed=seed) for seed in range(3)]
    batches[0]["labels"][:] = -100  # of which the module says that its loss is no number
    batches[1]["labels"][1:3] = -100
    assert [len(scored.loss_N) for scored in check_agreement(module, batches)] == [0, 2, 4]
