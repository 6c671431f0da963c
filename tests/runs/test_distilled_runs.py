"""Runs whose retraining has a teacher, keeps the better model, or averages weights."""

import json
from contextlib import nullcontext

import lightning as L
import pytest
import torch
from datasets import Dataset
from torch import nn

import train
from axformer_lightning import load_pretrained, save_pretrained
from axformer_lightning.distillation import Distillation, teacher_logits
from axformer_lightning.runs import stages, teaching
from axformer_lightning.runs.checking import check_configuration
from axformer_lightning.runs.configured import configuration_of, recipe_of
from axformer_lightning.runs.resume import LastEpoch
from axformer_lightning.runs.retraining import Recipe
from axformer_lightning.tasks import TASKS, TextClassifier, TextData, load_model, load_teacher, reworded
from axformer_lightning.training import StartingPoint
from tests.runs.runs import QUIET, SMALL, configuration, no_latencies, outcome, run
from tests.tasks.squad.official import write_squad

BERT = {
    "model_type": "bert",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}
NAN = float("nan")
TAUGHT = ["distillation=self", "retrain_epochs=2", "distillation.copies=0"]
WINDOWS = ["data.max_length=64", "data.doc_stride=16", "data.max_search_samples=6", "data.search_fraction=0.25"]


def weights(directory, name="model"):
    return load_pretrained(directory / name).state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def go(write_glue, tmp_path, monkeypatch):
    """Runs train.py in this process, in a directory of its own or in one that exists."""
    monkeypatch.setattr(train.reporting, "latencies_ms", no_latencies)
    data = f"data_dir={write_glue('mrpc')}"

    def run(name, *overrides):
        (tmp_path / name).mkdir(exist_ok=True)
        results = train.train(configuration("task=mrpc", *SMALL, data, *overrides), tmp_path / name)
        return results, tmp_path / name

    return run


@pytest.fixture
def calls(monkeypatch):
    """How often a teacher was asked for logits to keep."""
    asked = []

    def teacher_logits(*args):
        asked.append(1)
        return original(*args)

    original = teaching.teacher_logits
    monkeypatch.setattr(teaching, "teacher_logits", teacher_logits)
    return asked


@pytest.fixture
def trained_on(monkeypatch):
    """How many rows each fit trains on."""
    found = []
    original = TextData.train_dataloader

    def train_dataloader(data):
        loader = original(data)
        found.append(len(loader.dataset))
        return loader

    monkeypatch.setattr(TextData, "train_dataloader", train_dataloader)
    return found


@pytest.mark.slow
@QUIET
@pytest.mark.parametrize("more", [[], ["distillation.hidden=0.1"], ["retrain_dense=true"]])
def test_a_teacher_also_answers_reworded_copies_and_only_while_it_teaches(go, calls, trained_on, more):
    go("copies", *TAUGHT, "distillation.copies=2", *more)
    finetuned, retrained = trained_on
    assert retrained == 3 * finetuned
    assert len(calls) == (0 if "hidden" in str(more) else 2)  # of the training set, and of its copies


@pytest.mark.slow
@QUIET
@pytest.mark.parametrize("more", [[], ["retrain_dense=true"]])
def test_a_teacher_also_answers_texts_that_nobody_has_labelled(go, calls, trained_on, tmp_path, more):
    lines = [f"{i}\t1\t2\tIt rained on day {i}.\tIt poured." for i in range(7)]
    text = "\n".join(["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", *lines])
    (tmp_path / "more.tsv").write_text(text, encoding="utf-8")
    go("texts", *TAUGHT, f"distillation.texts={tmp_path / 'more.tsv'}", *more)
    finetuned, retrained = trained_on
    assert retrained == finetuned + 7
    assert len(calls) == 2  # of the training set, and of the texts


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("task=mrpc distillation.hidden=1", r"`distillation\.hidden=0` with `distillation\.texts`.*got 1"),
        ("task=squad", "a task of GLUE"),
        ("task=demo", "a task of GLUE"),
        ("task=mrpc", "not there"),
    ],
)
def test_texts_that_no_teacher_can_answer_are_refused_before_anything_is_read(words, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        check_configuration(configuration("distillation=self", "distillation.texts=nowhere.tsv", *words.split()))


def test_copies_of_questions_are_refused():
    cfg = configuration("task=squad", "distillation=self", "retrain_epochs=1", "distillation.copies=1")
    with pytest.raises(ValueError, match=r"Expected `distillation\.copies=0` in question answering"):
        check_configuration(cfg)


@pytest.mark.slow
@QUIET
def test_a_run_is_taught_from_what_its_teacher_has_said_once(go, calls):
    results, directory = go("taught", *TAUGHT)
    (retraining,) = results["retraining"]
    assert retraining["before"].keys() == retraining["after"].keys() == {"loss", "calibrated_loss", "accuracy", "f1"}
    losses = [retraining[when]["calibrated_loss"] for when in ("before", "after")]
    assert retraining["kept"] == ("after" if losses[1] < losses[0] else "before")
    assert len(calls) == 1
    assert not list(directory.glob("**/teacher*"))  # a run that has ended needs it no more


@pytest.mark.slow
@QUIET
def test_runs_of_a_sweep_ask_a_teacher_once(go, calls, tmp_path):
    together = f"sweep.dense_dir={tmp_path / 'dense'}"
    alone, _ = go("alone", *TAUGHT)
    one, _ = go("one", *TAUGHT, together)
    assert len(calls) == 2
    go("dense", *TAUGHT, "retrain_dense=true", together)
    again, _ = go("again", *TAUGHT, together)
    assert len(calls) == 2
    assert alone["retraining"] == one["retraining"] == again["retraining"]


@pytest.mark.slow
@QUIET
@pytest.mark.parametrize("trains_in", ["bf16-mixed", "32-true"])
def test_a_teacher_answers_in_the_precision_of_training(go, monkeypatch, trains_in):
    monkeypatch.setattr(train, "precision_of", lambda cfg: trains_in)
    seen, original = [], teaching.taught

    def taught(module, data, teacher, trainer, folder):
        seen.append(trainer.precision)
        return original(module, data, teacher, trainer, folder)

    monkeypatch.setattr(stages, "taught", taught)
    go("precise", *TAUGHT)
    assert seen == [trains_in]


@pytest.mark.slow
@QUIET
def test_retraining_that_does_harm_is_undone(go, calls):
    options = [*TAUGHT, "retrain_learning_rate=10", "distillation.hidden=1", "retrain_dense=true", "pruning.rounds=2"]
    results, directory = go("taught", *options)
    assert [retraining["kept"] for retraining in results["retraining"]] == ["before"] * 2
    assert all(retraining["after"]["loss"] > retraining["before"]["loss"] for retraining in results["retraining"])
    assert results["search"]["candidates"] == results["accepted"] == 0  # the dense model, by the same recipe
    assert same(weights(directory), weights(directory, "finetuned"))
    assert not calls  # a teacher of hidden states runs in every step


@pytest.mark.slow
@QUIET
def test_dropouts_drop_what_is_asked_for_in_retraining_alone(go, monkeypatch):
    shares, fit = [], L.Trainer.fit

    def noted(trainer, module, *args, **kwargs):
        shares.append({part.p for part in module.modules() if isinstance(part, nn.Dropout)})
        fit(trainer, module, *args, **kwargs)

    monkeypatch.setattr(L.Trainer, "fit", noted)
    go("run", "retrain_epochs=1", "retrain_dense=true", "retrain_dropout=0")
    assert shares == [{0.1}, {0.0}]


@pytest.mark.slow
@QUIET
def test_a_run_that_breaks_off_in_retraining_goes_on_to_the_same_end(go, calls, monkeypatch):
    options = [*TAUGHT, "retrain_ema=0.5", "pruning.retrain=rewind", "retrain_dense=true", "retrain_keep=last"]
    rewound, rewind = [], StartingPoint.rewind_
    monkeypatch.setattr(StartingPoint, "rewind_", lambda *args: rewound.append(rewind(*args)))
    results, whole = go("whole", *options)
    assert len(rewound) == 1
    assert results["retraining"] == [{"kept": "after"}]
    assert not same(weights(whole), weights(whole, "finetuned"))
    save = LastEpoch.on_train_epoch_end
    for epoch in (0, 1):  # after the last one an average of the weights has not taken their place yet

        def break_off(self, trainer, pl_module, epoch=epoch):
            save(self, trainer, pl_module)
            if "retrain" in self.path.name and trainer.current_epoch == epoch:
                raise InterruptedError

        with monkeypatch.context() as patch:
            patch.setattr(LastEpoch, "on_train_epoch_end", break_off)
            with pytest.raises(InterruptedError):
                go("broken", *options, "resume=true")
    _, broken = go("broken", *options, "resume=true")
    assert outcome(broken) == outcome(whole)
    assert len(calls) == 2  # once in each directory


@pytest.mark.slow
@QUIET
def test_a_teacher_of_another_family_reads_its_own_tokens(go, calls, electra):
    directory = electra("mrpc")
    options = ["distillation=directory", f"distillation.teacher={directory}", "retrain_epochs=1", "retrain_dense=true"]
    options += ["distillation.copies=0"]
    results, _ = go("taught", *options, "retrain_on_all=true", "retrain_keep=last")
    assert len(calls) == 2  # for the training and for the search set
    assert results["retraining"] == [{"kept": "after"}]


@QUIET
def test_answers_are_taught(tmp_path, calls):
    data = f"data_dir={write_squad(tmp_path, '1.1')}"
    results = run(tmp_path / "run", "task=squad", data, *WINDOWS, *TAUGHT, "retrain_dense=true")
    assert results["retraining"][0]["before"].keys() == {"loss", "exact_match", "f1"}
    assert len(calls) == 1


@pytest.fixture
def electra(tmp_path):
    """Makes a teacher of another family, beside its tokenizer."""

    def make(task, **config):
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        config = {"model_type": "electra", "embedding_size": 8, "max_position_embeddings": 64, **sizes, **config}
        teacher, tokenizer = load_model(TASKS[task], config=config, vocab_size=150, texts=["Who?"], max_length=48)
        teacher.save_pretrained(tmp_path / "teacher")
        tokenizer.save_pretrained(tmp_path / "teacher")
        return tmp_path / "teacher"

    return make


@pytest.mark.parametrize("hidden", [0.0, 1.0])
def test_after_training_nothing_of_a_teacher_is_left(tmp_path, hidden):
    model, tokenizer = load_model(TASKS["mrpc"], config=BERT, texts=["Who?", "What?"])
    save_pretrained(model, tmp_path / "finetuned")
    rows = Dataset.from_dict({"text_a": ["Who?", "What?"], "text_b": ["What?", "Who?"], "label": [0, 1]})
    data, module = TextData(rows, rows, {}, tokenizer, copies=rows), TextClassifier(model, TASKS["mrpc"])
    teacher = teaching.Teacher(tmp_path / "finetuned", TASKS["mrpc"], Distillation(hidden=hidden))
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with teaching.taught(module, data, teacher, trainer, tmp_path):
        assert bool(model._forward_hooks) == bool(hidden)
        assert (data.teacher_logits is None) == bool(hidden)
        assert len(data.train_dataloader().dataset) == 4
    assert len(data.train_dataloader().dataset) == 2
    assert (data.teacher_logits, module.distillation, len(model._forward_hooks)) == (None, None, 0)
    assert len(list(tmp_path.glob("teacher-*.safetensors"))) == (not hidden)


def test_a_teacher_with_its_own_tokenizer_answers_copies_in_its_own_tokens(electra, tmp_path):
    model, tokenizer = load_model(TASKS["mrpc"], config=BERT, texts=["Who?", "What?"])
    rows = Dataset.from_dict({"text_a": ["Who?", "What?"], "text_b": ["What?", "Who?"], "label": [0, 1]})
    copies = reworded(rows, copies=2, noise=1.0, seed=0)

    def make_data(own):
        return TextData(rows, rows, {}, own, copies=copies)

    data, module = make_data(tokenizer), TextClassifier(model, TASKS["mrpc"])
    teacher = teaching.Teacher(electra("mrpc"), TASKS["mrpc"], Distillation(), make_data)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with teaching.taught(module, data, teacher, trainer, tmp_path):
        assert [len(logits) for logits in data.teacher_logits] == [2] * 6


@pytest.mark.parametrize(("task", "labels"), [("mrpc", [0, 1]), ("stsb", [0.5, 4.5])])
def test_what_a_teacher_says_is_the_label_of_a_text_that_has_none(tmp_path, task, labels):
    texts = {"text_a": ["Who?", "What?"], "text_b": ["What?", "Who?"]}
    model, tokenizer = load_model(TASKS[task], config=BERT, texts=texts["text_a"])
    save_pretrained(model, tmp_path / "finetuned")
    rows, more = (Dataset.from_dict({**texts, "label": given}) for given in (labels, [type(labels[0])(-1)] * 2))
    data, module = TextData(rows, rows, {}, tokenizer, copies=more), TextClassifier(model, TASKS[task])
    teacher = teaching.Teacher(tmp_path / "finetuned", TASKS[task], Distillation())
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with teaching.taught(module, data, teacher, trainer, tmp_path):
        said = data.teacher_logits[2:]
        taught = [row["labels"] for row in data.train_dataloader().dataset.__getitems__([0, 1, 2, 3])]
    assert taught[:2] == labels
    assert taught[2:] == [int(logits.argmax()) if task == "mrpc" else float(logits) for logits in said]


def test_a_teacher_answers_texts_of_about_the_same_length_together(tmp_path, monkeypatch):
    texts = [" ".join(["what"] * (1 + 11 * i % 40)) for i in range(64)]
    model, tokenizer = load_model(TASKS["mrpc"], config=BERT, texts=texts)
    save_pretrained(model, tmp_path / "finetuned")
    rows = Dataset.from_dict({"text_a": texts, "text_b": texts[::-1], "label": [0, 1] * 32})
    data, module = TextData(rows, rows, {}, tokenizer, batch_size=8), TextClassifier(model, TASKS["mrpc"])
    in_order = list(data.in_order(data.train_rows))
    expected, seen = teaching.teacher_logits(model, in_order), []
    monkeypatch.setattr(
        teaching, "teacher_logits", lambda model, batches: teacher_logits(model, [seen.append(b) or b for b in batches])
    )
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with teaching.taught(
        module, data, teaching.Teacher(tmp_path / "finetuned", TASKS["mrpc"], Distillation()), trainer, tmp_path
    ):
        torch.testing.assert_close(torch.stack(data.teacher_logits), torch.stack(expected))
    padded, padded_in_order = (sum(int((b["attention_mask"] == 0).sum()) for b in part) for part in (seen, in_order))
    assert padded < padded_in_order / 2


REFUSED = {
    "another family for hidden states": (
        {"hidden": 1.0},
        "mrpc",
        "mrpc",
        "own family and size.*another tokenizer. Set",
    ),
    "too few positions": ({}, "mrpc", "mrpc", "at least the 65 positions of `data.max_length`, got 64"),
    "other labels": ({}, "rte", "mrpc", r"labels \['not_equivalent', 'equivalent'\], in this order, got \['ent"),
    "another number of labels": ({}, "stsb", "mrpc", "for 2 labels, as the task has, got one for 1"),
    "other tokens": ({}, "squad", "squad", "own tokenizer for question answering"),
    "another kind of task": (
        {},
        "squad",
        "mrpc",
        "of the task's kind, 'ForSequenceClassification', got .*ElectraForQu",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_teacher_that_cannot_teach_is_refused(electra, what):
    settings, taught, task, message = REFUSED[what]
    model, tokenizer = load_model(TASKS[task], config=BERT, texts=["What?"])
    teacher = teaching.Teacher(electra(taught), TASKS[task], Distillation(**settings))
    with pytest.raises(ValueError, match=message):
        teacher.check(model, tokenizer, ["Who?"], 65 if what == "too few positions" else 48)


def test_a_teacher_without_a_tokenizer_is_refused(electra):
    directory = electra("mrpc")
    for file in directory.glob("*token*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"Expected a tokenizer beside the teacher.*vocab.txt.*save_pretrained\(DIR\)"):
        load_teacher(TASKS["mrpc"], directory)


@QUIET
def test_a_teacher_is_refused_before_anything_trains(go, tmp_path):
    with pytest.raises(FileNotFoundError, match="fine-tuned model as the teacher, got 'nowhere'"):
        go("run", "distillation=directory", "distillation.teacher=nowhere", "retrain_epochs=1")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["state.json"]  # which says why


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0, "taught": True}, r"`retrain_epochs` of at least 1 with a teacher \(`distillation`\), got 0"),
        ({"epochs": 0, "how": "rewind"}, "at least 1 with pruning.retrain=rewind"),
        ({"epochs": 1, "keep": "best"}, "`retrain_keep` to be 'last', 'better' or 'better_metric', got 'best'"),
        ({"epochs": 1, "keep": "better", "on_all": True}, "cannot judge a model that was trained on it"),
        ({"epochs": 1, "ema": 1.0}, "`retrain_ema`"),
        ({"epochs": 1, "learning_rate": 0.0}, "`retrain_learning_rate`"),
        ({"epochs": 1, "learning_rate": NAN}, "`retrain_learning_rate` to be a number above 0, got nan"),
        ({"epochs": 1, "dropout": 1.0}, "`retrain_dropout`"),
    ],
)
def test_a_recipe_that_means_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**options)


@pytest.mark.parametrize(
    ("keep", "loss", "f1", "better"),
    [
        ("better", 0.4, 0.7, True),
        ("better", 0.5, 0.9, False),
        ("better", 0.6, 0.9, False),
        ("better", NAN, 0.9, False),
        ("better_metric", 0.6, 0.9, True),
        ("better_metric", 0.4, 0.7, False),
        ("better_metric", 0.4, 0.8, True),
        ("better_metric", 0.6, 0.8, False),
        ("better_metric", 0.5, 0.8, False),
    ],
)
def test_which_model_is_the_better_one(keep, loss, f1, better):
    before, after = {"loss": 0.5, "f1": 0.8}, {"loss": loss, "f1": f1}
    assert Recipe(1, keep=keep, headline="f1").is_better(after, before) == better


@pytest.mark.parametrize(
    ("keep", "before", "after", "better"),
    [
        ("better", {"loss": NAN, "f1": 0.0}, {"loss": 0.9, "f1": 0.0}, True),
        ("better", {"loss": NAN, "f1": 0.0}, {"loss": NAN, "f1": 0.9}, False),
        ("better_metric", {"loss": 0.5, "f1": NAN}, {"loss": 0.6, "f1": 0.1}, True),
        ("better_metric", {"loss": 0.5, "f1": 0.1}, {"loss": 0.4, "f1": NAN}, False),
        ("better_metric", {"loss": 0.5, "f1": NAN}, {"loss": 0.4, "f1": NAN}, True),
    ],
)
def test_what_is_no_number_is_the_worst(keep, before, after, better):
    assert Recipe(1, keep=keep, headline="f1").is_better(after, before) == better


def test_confidence_alone_makes_no_model_better_or_worse():
    before = {"loss": 0.5, "calibrated_loss": 0.4, "f1": 0.8}
    surer, wiser = before | {"loss": 0.6, "calibrated_loss": 0.39}, before | {"loss": 0.4, "calibrated_loss": 0.41}
    for keep in ("better", "better_metric"):
        assert Recipe(1, keep=keep, headline="f1").is_better(surer, before)
        assert not Recipe(1, keep=keep, headline="f1").is_better(wiser, before)


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("words", "copies", "rate", "dropout"),
    [
        ("task=mrpc pruning=budget", 2, 4e-5, 0.0),
        ("task=mrpc pruning=budget model=minilm", 2, 2e-4, 0.0),
        ("task=mrpc distillation=directory distillation.teacher=x", 2, 4e-5, 0.0),
        ("task=mrpc pruning=budget retrain_dropout=0.2 retrain_learning_rate=3e-5", 2, 3e-5, 0.2),
        ("task=mrpc pruning=budget distillation.copies=0", 0, None, None),
        ("task=squad pruning=budget", 0, None, None),
        ("pruning=budget", 0, None, None),
        ("task=mrpc", None, None, None),
    ],
)
def test_with_copies_a_model_retrains_without_dropout_and_faster_unless_told_otherwise(words, copies, rate, dropout):
    cfg = configuration(*words.split())
    recipe = recipe_of(cfg, "continue", cfg.distillation)
    assert (cfg.distillation and cfg.distillation.copies) == copies
    assert (recipe.learning_rate, recipe.dropout) == (rate, dropout)
    assert recipe.taught == (copies is not None)


@pytest.mark.parametrize(
    ("words", "refused"), [("int8=default", False), ("", True), ("int8=default retrain_dense=true", True)]
)
def test_a_teacher_who_would_teach_in_int8_alone_is_refused_where_nothing_is_in_int8(words, refused):
    cfg = configuration("distillation=self", "retrain_epochs=0", "int8_retrain_epochs=1", *words.split())
    with pytest.raises(ValueError, match="`retrain_epochs` of at least 1 with a teacher") if refused else nullcontext():
        recipe_of(cfg, "continue", cfg.distillation)


def test_a_recipe_that_is_said_in_full_is_that_of_a_budget():
    words = ["task=stsb", "model=minilm", "pruning.ratios=[2,3.2,10]"]
    said = configuration("experiment=budget_reworded", *words)
    short = configuration("pruning=budget", *words)
    assert (said.distillation, said.pruning) == (short.distillation, short.pruning)
    recipes = [recipe_of(cfg, "continue", cfg.distillation) for cfg in (said, short)]
    assert recipes[0] == recipes[1]


def test_without_a_teacher_what_comes_out_is_kept():
    cfg = configuration("task=mrpc")
    assert (cfg.distillation, cfg.retrain_keep, cfg.retrain_ema, cfg.retrain_dense) == (None, "last", None, False)
    assert configuration("distillation=self").retrain_keep == "better"
    assert json.loads(json.dumps(configuration_of(configuration("distillation=self"))))["distillation"] == {
        "temperature": 2.0, "alpha": 0.9, "hidden": 0.0, "teacher": "self", "copies": 0, "noise": 0.3,
        "texts": None,
    }  # fmt: skip
