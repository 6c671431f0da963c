import lightning as L
import pytest
import torch
from transformers import AutoConfig, AutoModelForMultipleChoice, AutoModelForTokenClassification, ElectraForPreTraining

from axformer_lightning.scoring import with_own_labels

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


def test_whatever_has_labels_or_is_no_classifier_stays_as_it_is(model, texts):
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
    tokens = AutoModelForTokenClassification.from_config(model.config)
    assert stays(tokens, texts)
    electra = ElectraForPreTraining(AutoConfig.for_model("electra", vocab_size=50, num_labels=3))
    assert with_own_labels(electra, electra, texts) == texts  # a number for each token
    for problem_type in ("multi_label_classification", "regression"):
        model.config.problem_type = problem_type
        assert stays(model, texts)


def test_choices_are_classes_however_many_there_are(model):
    choosing = AutoModelForMultipleChoice.from_config(model.config)
    ids = torch.ones(2, 5, 4, dtype=torch.long)
    (named,) = with_own_labels(choosing, choosing, [{"input_ids": ids, "attention_mask": ids}])
    assert named["labels"].shape == (2,)
