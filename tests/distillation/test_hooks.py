"""A teacher in the loss of a model of any family."""

import copy
import inspect
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from axformer_lightning import Plan, apply_plan_
from axformer_lightning.anatomy import LayerPlan, anatomy_of
from axformer_lightning.distillation import Distillation, distilled, hidden_loss, soft_loss
from axformer_lightning.distillation.hooks import kept_layers
from tests.conftest import EAGER_ONLY

QUIET = {
    **dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "classifier_dropout_prob"), 0.0
    ),
    **dict.fromkeys(("dropout", "attention_dropout", "seq_classif_dropout", "pooler_dropout"), 0.0),
}
SETTINGS = Distillation(temperature=3, alpha=0.7)


def pair(tiny, family="bert", **config):
    implementation = "eager" if family in EAGER_ONLY else "sdpa"
    student, teacher = (tiny.model(family, implementation, seed=seed, **QUIET, **config) for seed in (0, 1))
    return student.train(), teacher


@pytest.mark.one_implementation
@pytest.mark.parametrize("hidden", [0.0, 0.5])
def test_the_loss_is_what_it_would_be_by_hand_and_afterwards_what_it_was(tiny, family, batch, state, hidden):
    student, teacher = pair(tiny, family)
    before = student(**batch, output_hidden_states=True)
    untouched = state(student)
    settings = Distillation(3, 0.7, hidden)
    with torch.no_grad():
        taught = teacher(**{k: v for k, v in batch.items() if k != "labels"}, output_hidden_states=True)
    by_hand = 0.3 * before.loss + 0.7 * soft_loss(before.logits, taught.logits, temperature=3)
    if hidden:
        layers = range(len(before.hidden_states) - 1)
        states = before.hidden_states, taught.hidden_states
        by_hand = by_hand + hidden * hidden_loss(*states, layers, batch.get("attention_mask"))
    with distilled(student, teacher.train(), settings):
        torch.testing.assert_close(student(**batch).loss, by_hand)
        assert not teacher.training
        with torch.no_grad():
            torch.testing.assert_close(student(**batch).loss, before.loss)
        assert student.eval()(**batch).hidden_states is None
        torch.testing.assert_close(student(**batch).loss, before.loss)
    assert teacher.training
    assert state(student.train()) == untouched
    torch.testing.assert_close(student(**batch).loss, before.loss)


def test_only_the_student_learns_and_nothing_of_the_teacher_is_saved(tiny):
    student, teacher = pair(tiny)
    names, weights = student.state_dict().keys(), copy.deepcopy(teacher.state_dict())
    with distilled(student, teacher, SETTINGS):
        student(**tiny.batch()).loss.backward()
        assert student.state_dict().keys() == names
        assert copy.deepcopy(student).state_dict().keys() == names
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in teacher.state_dict().items())
    assert any(parameter.grad is not None for parameter in student.parameters())


def counted(forward, model, calls):
    def counting(self, *args, **kwargs):
        calls.extend([1] * (self is model))
        return forward(self, *args, **kwargs)

    return counting


def test_a_copy_of_the_student_shares_the_teacher(tiny, monkeypatch):
    student, teacher = pair(tiny)
    calls = []
    monkeypatch.setattr(type(teacher), "forward", counted(type(teacher).forward, teacher, calls))
    with distilled(student, teacher, SETTINGS):
        copy.deepcopy(student)(**tiny.batch())
        assert calls == [1]
        pickle.loads(pickle.dumps(student))


def test_a_model_may_be_cut_while_it_is_taught(tiny):
    student, teacher = pair(tiny)
    batch = tiny.batch()
    layers = (LayerPlan("removed", (), "removed"), LayerPlan(heads_removed=(1,)), LayerPlan("removed"))
    with distilled(student, teacher, Distillation(2, 0.5, 1.0)):
        whole = student(**batch).loss
        apply_plan_(student, replace(Plan.dense(anatomy_of(student)), layers=layers))
        cut = student(**batch).loss
        cut.backward()
    assert not torch.equal(whole, cut)
    assert kept_layers(student, 3) == [1, 2]
    assert kept_layers(student, 12) == list(range(12))  # where layers are applied several times


def test_starts_and_ends_are_taught(tiny):
    student, teacher = (tiny.model("bert", auto=AutoModelForQuestionAnswering, seed=s, num_labels=2) for s in (0, 1))
    batch = tiny.batch()
    batch["start_positions"] = batch["end_positions"] = batch.pop("labels")
    output = student(**batch)
    with torch.no_grad():
        taught = teacher(batch["input_ids"], batch["attention_mask"])
    pairs = [(output.start_logits, output.end_logits), (taught.start_logits, taught.end_logits)]
    student.train()
    for module in student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with distilled(student, teacher, SETTINGS):
        torch.testing.assert_close(student(**batch).loss, 0.3 * output.loss + 0.7 * soft_loss(*pairs, temperature=3))


@pytest.mark.parametrize("auto", [AutoModelForSequenceClassification, AutoModelForTokenClassification])
def test_inputs_and_labels_may_be_given_by_position(tiny, auto):
    student, teacher = (tiny.model("bert", auto=auto, seed=seed, **QUIET) for seed in (0, 1))
    batch = tiny.batch()
    if auto is AutoModelForTokenClassification:
        batch["labels"] = torch.where(batch["attention_mask"].bool(), batch["labels"][:, None], -100)
    assert not batch["attention_mask"].all()
    names = [*inspect.signature(student.forward).parameters][:6]
    assert {*batch} <= {*names}
    student.train()
    with distilled(student, teacher, Distillation(2, 0.5, 1.0)):
        expected = student(**batch).loss
        torch.testing.assert_close(student(*map(batch.get, names)).loss, expected)


def test_a_teacher_may_have_its_inputs_in_another_order(tiny):
    student, _ = pair(tiny)
    teacher = tiny.model("distilbert", seed=1, **QUIET)  # without `token_type_ids`, which are third in BERT
    batch = tiny.batch()
    segments = torch.zeros_like(batch["input_ids"])
    with distilled(student, teacher, SETTINGS):
        expected = student(**batch, token_type_ids=segments).loss
        found = student(batch["input_ids"], batch["attention_mask"], segments, labels=batch["labels"]).loss
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_a_compiled_model_is_taught_too(tiny):
    student, teacher = pair(tiny, num_hidden_layers=1)
    compiled = torch.compile(student, backend="eager")
    batch = tiny.batch()
    with distilled(student, teacher, SETTINGS):
        expected = student(**batch).loss
        torch.testing.assert_close(compiled(**batch).loss, expected)
    torch.testing.assert_close(compiled(**batch).loss, student(**batch).loss)
    assert not torch.equal(expected, student(**batch).loss)


def test_a_call_without_labels_is_told_what_to_do(tiny):
    student, teacher = pair(tiny)
    batch = tiny.batch()
    del batch["labels"]
    with distilled(student, teacher, SETTINGS):
        with pytest.raises(ValueError, match=r"called with labels in training.*distillation.soft_loss"):
            student(**batch)
        with pytest.raises(ValueError, match="leave `return_dict` on"):
            student(**tiny.batch(), return_dict=False)
        student.eval()(**batch)


def test_a_teacher_that_was_set_to_train_meanwhile_still_teaches_without_dropout(tiny):
    student, teacher = pair(tiny)
    with distilled(student, teacher, SETTINGS):
        teacher.train()
        student(**tiny.batch())
        assert not teacher.training


def test_images_are_taught_also_where_the_student_is_less_precise(tiny):
    student, teacher = pair(tiny, "vit")
    images = tiny.images()
    with distilled(student, teacher, SETTINGS):
        expected = student(**images).loss
        rounded = student.bfloat16()(pixel_values=images["pixel_values"].bfloat16(), labels=images["labels"]).loss
    torch.testing.assert_close(rounded.float(), expected, rtol=0.1, atol=0.1)


def sharing(model, tiny):
    """Another model with some of the weights of ``model``."""
    teacher = tiny.model("bert", seed=1)
    teacher.bert.embeddings = model.bert.embeddings
    return teacher


REFUSED = {
    "a part of itself": (lambda tiny, model: sharing(model, tiny), "weights of its own"),
    "itself": (lambda tiny, model: model, "weights of its own.*deepcopy"),
    "another number of labels": (lambda tiny, model: tiny.model("bert", num_labels=2), "for 3 labels.* got one for 2"),
    "other labels": (
        lambda tiny, model: tiny.model("bert", id2label={0: "no", 1: "maybe", 2: "yes"}),
        r"labels \['yes', 'no', 'maybe'\], in this order, got \['no', 'maybe', 'yes'\]",
    ),
    "another vocabulary": (lambda tiny, model: tiny.model("bert", vocab_size=40), "of 50 tokens.* got one of 40"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_teacher_that_cannot_teach_is_refused_and_leaves_no_hook(tiny, state, what):
    model = tiny.model("bert", id2label={0: "Yes", 1: "No", 2: "Maybe"})
    make, message = REFUSED[what]
    before = state(model)
    with pytest.raises(ValueError, match=message), distilled(model, make(tiny, model), SETTINGS):
        pass
    assert state(model) == before


def test_a_teacher_of_another_kind_of_task_is_refused(tiny):
    teacher = tiny.model("bert", auto=AutoModelForTokenClassification)
    with pytest.raises(ValueError, match="same kind of task, SequenceClassification, got a BertForTokenClass"):
        distilled(tiny.model("bert"), teacher, SETTINGS).__enter__()


@pytest.mark.parametrize(
    "teacher", [("roberta", {}), ("bert", {"num_hidden_layers": 2}), ("bert", {"hidden_size": 16})]
)
def test_hidden_states_need_the_same_family_and_size(tiny, teacher):
    family, config = teacher
    other, model = tiny.model(family, **config), tiny.model("bert")
    with pytest.raises(ValueError, match=r"for `hidden` above 0, 'bert' with 3 layers of width 32, got '\w+' with"):
        distilled(model, other, Distillation(hidden=1)).__enter__()
    with distilled(model, other, SETTINGS):
        pass


def test_labels_without_names_and_in_other_case_are_accepted(tiny):
    model = tiny.model("bert", id2label={0: "Yes", 1: "No", 2: "Maybe"})
    for teacher in (tiny.model("bert", seed=1), tiny.model("bert", id2label={0: "yes", 1: "no", 2: "maybe"}, seed=1)):
        with distilled(model, teacher, SETTINGS):
            pass
