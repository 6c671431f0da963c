import lightning as L
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
    ElectraForPreTraining,
)

from axformer_lightning.scoring import step_of, with_own_labels

pytestmark = [pytest.mark.one_implementation, pytest.mark.one_family]


class Holds(L.LightningModule):
    """Has no forward of its own, so it is scored through the model in it."""

    def __init__(self, model):
        super().__init__()
        self.model = model


class Calls(Holds):
    """As in example (a) of docs/lightning_modules.md."""

    def forward(self, **batch):
        return self.model(**batch)


class Embeds(Holds):
    def forward(self, input_ids, attention_mask):
        return self.model.base_model(input_ids, attention_mask).last_hidden_state[:, 0]


class NeedsLabels(Holds):
    def forward(self, batch):
        return self.model(**batch).logits[batch["labels"] >= 0]


class Scores(Holds):
    def axformer_step(self, batch):
        raise AssertionError


@pytest.fixture
def texts(tiny, family):
    batches = [tiny.batch((5, 9), tiny.pads[family]), tiny.batch((7,), tiny.pads[family])]
    return [{name: value for name, value in batch.items() if name != "labels"} for batch in batches]


@pytest.mark.parametrize("wrap", [lambda model: model, Holds, Calls])
@pytest.mark.parametrize("return_dict", [True, False])
def test_the_labels_are_the_classes_that_the_model_gives(model, texts, wrap, return_dict):
    model.config.return_dict = return_dict
    model.train()
    named = with_own_labels(wrap(model), model, [{**batch, "labels": None} for batch in texts])
    assert model.training
    model.eval()
    for batch, given in zip(named, texts, strict=True):
        assert batch.keys() == {*given, "labels"}
        assert torch.equal(batch["labels"], model(**given, return_dict=True).logits.argmax(-1))


def test_whatever_has_labels_or_gives_no_answers_stays_as_it_is(model, texts):
    def stays(module, batches):
        return all(one is other for one, other in zip(with_own_labels(module, model, batches), batches, strict=True))

    labels = torch.zeros(1, dtype=torch.long)
    assert stays(model, [texts[0], {**texts[1], "label": labels}])
    assert stays(model, [{**batch, "start_positions": labels, "end_positions": labels} for batch in texts])
    assert stays(model, [tuple(batch.values()) for batch in texts])
    assert stays(model, [])
    assert stays(Embeds(model), texts)
    assert stays(NeedsLabels(model), texts)
    assert stays(Scores(model), texts)
    electra = ElectraForPreTraining(AutoConfig.for_model("electra", vocab_size=50, num_labels=3))
    assert with_own_labels(electra, electra, texts) == texts  # a number for each token


def test_choices_are_classes_however_many_there_are(model):
    choosing = AutoModelForMultipleChoice.from_config(model.config)
    ids = torch.ones(2, 5, 4, dtype=torch.long)
    (named,) = with_own_labels(choosing, choosing, [{"input_ids": ids, "attention_mask": ids}])
    assert named["labels"].shape == (2,)


@pytest.mark.parametrize(
    ("kind", "labels", "expected"),
    [
        ("multi_label_classification", 3, lambda logits: (logits > 0).float()),
        ("regression", 3, lambda logits: logits),
        ("regression", 1, lambda logits: logits),
        (None, 1, lambda logits: logits),
    ],
)
def test_several_labels_and_numbers_are_told_by_the_config(tiny, texts, kind, labels, expected):
    model = tiny.model("bert", problem_type=kind, num_labels=labels)
    for named, text in zip(with_own_labels(model, model, texts), texts, strict=True):
        with torch.no_grad():
            assert torch.equal(named["labels"], expected(model(**text).logits))
    assert step_of(model, kind)(named).loss_N.max() < 0.7  # a number's own label leaves no loss


def test_tokens_have_labels_and_padding_has_none(tiny, texts):
    model = tiny.model("bert", auto=AutoModelForTokenClassification)
    named, alone = with_own_labels(model, model, texts)
    with torch.no_grad():
        expected = model(**texts[0]).logits.argmax(-1)
    assert torch.equal(named["labels"], expected.where(texts[0]["attention_mask"] == 1, -100))
    assert named["labels"].min() == -100 < alone["labels"].min()
    (unmasked,) = with_own_labels(model, model, [{"input_ids": texts[1]["input_ids"]}])
    assert torch.equal(unmasked["labels"], alone["labels"])


def test_answers_have_a_start_and_an_end(tiny, texts):
    model = tiny.model("bert", auto=AutoModelForQuestionAnswering, num_labels=2)
    for named, text in zip(with_own_labels(model, model, texts), texts, strict=True):
        with torch.no_grad():
            output = model(**text)
        assert torch.equal(named["start_positions"], output.start_logits.argmax(1))
        assert torch.equal(named["end_positions"], output.end_logits.argmax(1))
        assert "labels" not in named


def test_one_batch_is_no_list_of_batches(model, texts):
    with pytest.raises(ValueError, match=r"got a dict, which is one batch. Pass `\[batch\]`"):
        with_own_labels(model, model, texts[0])
