import lightning as L
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from transformers import AutoConfig, AutoModelForQuestionAnswering
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from axformer_lightning import shrink
from axformer_lightning.distillation import Distillation, soft_loss
from axformer_lightning.scoring import step_of
from axformer_lightning.scoring.names import SPAN
from axformer_lightning.tasks.squad import QuestionAnswerer, QuestionData, SquadMetrics, SquadV2Metrics, entry_of
from axformer_lightning.tasks.task import Task

OPTIONS = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
OPTIONS |= {"enable_model_summary": False}
V1 = Task("question_answering", lambda: {name: entry_of(SquadMetrics(), name) for name in ("exact_match", "f1")})
V2 = Task("question_answering", lambda: {"squad": SquadV2Metrics()})


class Oracle(nn.Module):
    """Gives the labels back as logits."""

    def forward(self, input_ids, attention_mask, start_positions, end_positions):
        length = input_ids.shape[1]
        logits = [10.0 * one_hot(positions, length) for positions in (start_positions, end_positions)]
        return QuestionAnsweringModelOutput(start_logits=logits[0], end_logits=logits[1])


@pytest.fixture(scope="module")
def data(train, dev, dev_v2, wordpiece):
    search, rest = train.select(range(10)), train.select(range(10, 40))
    sizes = {"batch_size": 8, "max_length": 48, "doc_stride": 12}
    return QuestionData(rest, search, {"": dev, "_v2": dev_v2}, wordpiece, **sizes)


@pytest.fixture
def make(wordpiece, data):
    def build(family="bert", task=V1, **options):
        torch.manual_seed(0)
        config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        if family == "distilbert":
            config = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
        config |= {"vocab_size": len(wordpiece), "pad_token_id": 0, "initializer_range": 0.5}
        model = AutoModelForQuestionAnswering.from_config(AutoConfig.for_model(family, **config))
        return QuestionAnswerer(model, task, 1e-3, questions=data.questions, **options)

    return build


@pytest.mark.slow
def test_a_budget_is_judged_by_how_far_answers_go_whatever_the_positions(make, data):
    module = make().eval()
    batches = list(data.val_dataloader())
    elsewhere = [{**batch, **{name: torch.ones_like(batch[name]) for name in SPAN}} for batch in batches]
    small = [shrink(module, given, encoder_size_ratio=1.5).model for given in (batches, elsewhere)]
    assert small[0].axformer_plan == small[1].axformer_plan
    scored = step_of(module)(batches[0])
    assert [len(logits) for logits in scored.logits] == [len(batches[0]["input_ids"])] * 2


@pytest.mark.parametrize(("task", "suffix"), [(V1, ""), (V2, "_v2")])
def test_a_model_that_knows_the_labels_is_always_right(data, task, suffix):
    module = QuestionAnswerer(Oracle(), task, questions=data.questions)
    (values,) = L.Trainer(**OPTIONS).test(module, data.dev_dataloader(suffix), verbose=False)
    assert values["exact_match"] == values["f1"] == 1
    assert {value for name, value in values.items() if "threshold" not in name and name != "loss"} == {1.0}
    assert values["loss"] < 0.01


def test_every_question_has_one_loss_one_prediction_and_one_target(make, data):
    module = make().eval()
    losses, ids = [], []
    with torch.no_grad():
        for batch in data.val_dataloader():
            loss_N, preds, target = step_of(module)(batch)
            output = module.model(**{name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")})
            for n, question in enumerate(batch["sample_ids"].unique().tolist()):
                of_question = batch["sample_ids"] == question
                parts = [
                    cross_entropy(output[f"{side}_logits"][of_question], batch[f"{side}_positions"][of_question])
                    for side in ("start", "end")
                ]
                assert loss_N[n].item() == pytest.approx(sum(parts).item() / 2)
                assert preds[n]["id"] == target[n]["id"] == data.questions[question].id
                assert preds[n]["prediction_text"] in data.questions[question].context
                assert target[n]["answers"] == data.questions[question].answers
            assert len(loss_N) == len(preds) == len(target) == len(batch["sample_ids"].unique())
            losses += loss_N.tolist()
            ids += [pred["id"] for pred in preds]
    assert ids == [question.id for question in data.questions[:10]]
    assert min(losses) > 0
    assert module.axformer_losses_nonnegative
    assert module.axformer_samples_independent


def test_how_much_better_no_answer_is_comes_with_each_prediction(data):
    module = QuestionAnswerer(Oracle(), V2, questions=data.questions)
    for batch in data.dev_dataloader("_v2"):
        for pred, truth in zip(*module.axformer_step(batch)[1:], strict=True):
            assert pred["no_answer_score"] == (-20 if truth["answers"]["text"] else 20)


def test_the_length_of_answers_is_bounded(data):
    texts = {}
    for longest in (1, 30):
        module = QuestionAnswerer(Oracle(), V1, questions=data.questions, max_answer_length=longest)
        batches = data.test_dataloader()
        texts[longest] = [pred["prediction_text"] for batch in batches for pred in module.axformer_step(batch)[1]]
    assert any(" " in text for text in texts[30])
    assert not any(" " in text for text in texts[1])


@pytest.mark.slow_but_first
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_fit_trains_every_parameter_and_logs_the_search_set(make, data, family):
    module = make(family)
    before = [parameter.clone() for parameter in module.parameters()]
    trainer = L.Trainer(max_epochs=2, **OPTIONS)
    trainer.fit(module, data)
    after = list(module.parameters())
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True) if new.requires_grad)
    module.eval()
    metrics, losses = SquadMetrics(), []
    with torch.no_grad():
        for batch in data.val_dataloader():
            loss_N, preds, target = module.axformer_step(batch)
            metrics.update(preds, target)
            losses += loss_N.tolist()
    logged = {name: value.item() for name, value in trainer.callback_metrics.items() if name != "train_loss"}
    expected = {f"search_{name}": value.item() for name, value in metrics.compute().items()}
    expected["search_loss"] = sum(losses) / 10
    assert logged == pytest.approx(expected)


def test_each_evaluation_begins_anew(data):
    module, trainer = QuestionAnswerer(Oracle(), V1, questions=data.questions), L.Trainer(**OPTIONS)
    module.max_answer_length = 1
    (wrong,) = trainer.test(module, data.test_dataloader(), verbose=False)
    module.max_answer_length = 30
    (right,) = trainer.test(module, data.test_dataloader(), verbose=False)
    assert wrong["exact_match"] < right["exact_match"] == 1
    assert set(right) == {"loss", "exact_match", "f1"}


def test_windows_are_taught_by_position_and_padding_is_ruled_out(make, data, monkeypatch):
    lengths = [len(ids) for ids in data.train_rows["input_ids"]]
    generator = torch.Generator().manual_seed(0)
    monkeypatch.setattr(data, "teacher_logits", [torch.randn(length, 2, generator=generator) for length in lengths])
    batch = next(batch for batch in data.train_dataloader() if not batch["attention_mask"].all())
    padded = batch["attention_mask"] == 0
    taught = batch["teacher_logits"]
    assert (taught[padded] == -1e4).all()
    assert (taught[~padded] > -10).all()
    module = make()
    module.log, module.distillation = lambda *args, **options: None, Distillation(temperature=2, alpha=0.5)
    module.eval()
    output = module(**batch)
    starts, ends = zip((output.start_logits, output.end_logits), taught.unbind(-1), strict=True)
    soft = (soft_loss(*starts, temperature=2) + soft_loss(*ends, temperature=2)) / 2
    torch.testing.assert_close(module.training_step(batch, 0), 0.5 * output.loss + 0.5 * soft)
    assert soft.isfinite()
