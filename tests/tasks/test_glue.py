"""Every task of GLUE, from its official files to results.json, and what is refused in these files."""

import json
import re

import pytest

from axformer_lightning.evidence import Predictions
from axformer_lightning.tasks import TASKS, load_rows, rows
from axformer_lightning.tasks.tsv import read_tsv
from tests.runs.runs import QUIET, run

GLUE = [name for name, task in TASKS.items() if task.test]
METRICS = {name: ["accuracy"] for name in GLUE} | {
    "cola": ["matthews_correlation"],
    "mrpc": ["accuracy", "f1"],
    "qqp": ["accuracy", "f1"],
    "stsb": ["pearson", "spearman"],
    "mnli": ["accuracy", "accuracy_mismatched"],
}
SUBMISSIONS = {"cola": {"CoLA"}, "sst2": {"SST-2"}, "mrpc": {"MRPC"}, "stsb": {"STS-B"}, "qqp": {"QQP"}}
SUBMISSIONS |= {"mnli": {"MNLI-m", "MNLI-mm"}, "qnli": {"QNLI"}, "rte": {"RTE"}, "wnli": {"WNLI"}}


def test_all_nine_are_there():
    assert set(GLUE) == set(SUBMISSIONS)


WHOLE_RUNS = ("cola", "mrpc", "stsb", "mnli", "rte")  # one for each kind of metric, dev set and label


@QUIET
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "task", [task if task in WHOLE_RUNS else pytest.param(task, marks=pytest.mark.exhaustive) for task in GLUE]
)
@pytest.mark.always
@pytest.mark.slow_but_first
def test_a_task_goes_from_its_official_files_to_results_and_predictions(task, write_glue, tmp_path):
    directory = tmp_path / "run"
    results = run(directory, f"task={task}", f"data_dir={write_glue(task)}", "predict_test=true")
    assert json.loads((directory / "results.json").read_text()) == results
    assert results["search"]["candidates"] > 0
    for side in ("baseline", "axformer"):
        assert list(results[side]["metrics"]) == METRICS[task]
        assert all(-1 <= value <= 1 for value in results[side]["metrics"].values())
        check_predictions(directory, side, results)
    files = {path.stem: path.read_text().split("\n") for path in (directory / "predictions").iterdir()}
    assert set(files) == SUBMISSIONS[task]
    for header, *lines, last in files.values():
        assert (header, last) == ("index\tprediction", "")
        indices, predictions = zip(*(line.split("\t") for line in lines), strict=True)
        assert [*map(int, indices)] == [*range(9)]
        if task == "stsb":
            assert all(re.fullmatch(r"\d\.\d{3}", text) and 0 <= float(text) <= 5 for text in predictions)
        else:
            assert set(predictions) <= set(TASKS[task].labels if task in ("mnli", "qnli", "rte") else ["0", "1"])


def check_predictions(directory, side, results):
    """Fail unless what is kept of each dev sample gives the metrics that were reported."""
    folder = directory / {"baseline": "finetuned", "axformer": "model"}[side]
    for name, value in results[side]["metrics"].items():
        metric = name.removesuffix("_mismatched")
        said = Predictions.load(folder, name.removeprefix(metric))
        # torchmetrics adds up in float32, and this tiny model predicts nearly one and the same number.
        assert float(said.value(metric)) == pytest.approx(value, abs=1e-3)


@pytest.mark.slow
@QUIET
def test_a_regression_is_searched_by_its_correlation(write_glue, tmp_path):
    results = run(tmp_path / "run", "task=stsb", f"data_dir={write_glue('stsb')}", "pruning.criterion=metric")
    assert results["search"]["candidates"] > 0
    assert not (tmp_path / "run" / "predictions").exists()


@pytest.mark.parametrize("task", ["demo", "squad"])
def test_predictions_without_a_test_set_are_refused_before_training(task, tmp_path):
    with pytest.raises(ValueError, match=rf"`predict_test=true`, one of \['cola'.*got '{task}'"):
        run(tmp_path / "run", f"task={task}", "predict_test=true")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["state.json"]  # which says why


@pytest.mark.parametrize("task", GLUE)
def test_the_columns_of_the_official_files_are_found(task, write_glue):
    train_rows, dev, test = load_rows(task, write_glue(task), with_test=True)
    assert len(train_rows) == 40
    assert [len(part) for part in dev.values()] == [12] * len(dev)
    assert [len(part) for part in test.values()] == [9] * len(test)
    for part in (train_rows, *dev.values(), *test.values()):
        assert all(text.startswith('" ') for text in part["text_a"])
        assert all(text.endswith(".") for text in part["text_b" if "text_b" in part.column_names else "text_a"])
    numbers = {"stsb": [0.0, 0.5, 1.0, 1.5], "mnli": [1, 0, 2, 1], "qnli": [1, 0, 1, 1], "rte": [1, 0, 1, 1]}
    assert train_rows["label"][:4] == numbers.get(task, [0, 1, 0, 0])


def test_both_dev_sets_of_mnli_are_read(write_glue):
    _, dev, test = load_rows("mnli", write_glue("mnli"), with_test=True)
    assert dev[""]["text_a"][:] != dev["_mismatched"]["text_a"][:]
    assert test["MNLI-m"]["text_a"][:] != test["MNLI-mm"]["text_a"][:]


def test_an_absent_test_set_is_named(write_glue):
    folder = write_glue("rte")
    (folder / "RTE" / "test.tsv").unlink()
    assert load_rows("rte", folder).test == {}
    with pytest.raises(FileNotFoundError, match=r"RTE/test\.tsv'"):
        load_rows("rte", folder, with_test=True)


def damaged(folder, name, change):
    """Change the lines of an official file."""
    path = folder / name
    lines = path.read_text(encoding="utf-8").split("\n")
    change(lines)
    path.write_text("\n".join(lines), encoding="utf-8")


def without_last_field(line):
    return line.rpartition("\t")[0]


@pytest.mark.parametrize("task", [task for task in GLUE if task != "qqp"])
@pytest.mark.parametrize("change", [without_last_field, lambda line: f"{line}\tmore"])
def test_a_ragged_row_is_named(task, change, write_glue):
    folder = write_glue(task)

    def damage(lines):
        lines[6] = change(lines[6])

    damaged(folder / TASKS[task].folder, "train.tsv", damage)
    with pytest.raises(ValueError, match=r"tab-separated fields in '.*train\.tsv', line 7, got"):
        load_rows(task, folder)


@pytest.mark.parametrize("header", ["sentence", "index\tsentence"])
def test_a_blank_line_is_named(header, tmp_path):
    (tmp_path / "more.tsv").write_text(f"{header}\n\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"tab-separated fields in '.*', line 2, got a blank line\. Give each row"):
        list(read_tsv(tmp_path / "more.tsv", TASKS["sst2"], labelled=False))


def broken_in_two(lines):
    lines[3:4] = lines[3].split(" the ", 1)


def test_ragged_rows_of_qqp_are_skipped_and_told_once(write_glue, caplog):
    folder = write_glue("qqp")
    damaged(folder / "QQP", "train.tsv", broken_in_two)
    assert len(load_rows("qqp", folder).train) == 39
    (message,) = [record.getMessage() for record in caplog.records]
    assert re.search(r"Skipped 2 lines of '.*train\.tsv' with too few .* fields, the first ones are \[4, 5\]", message)


def test_a_ragged_row_of_a_test_set_is_refused_even_in_qqp(write_glue):
    folder = write_glue("qqp")
    damaged(folder / "QQP", "test.tsv", broken_in_two)
    with pytest.raises(ValueError, match=r"3 tab-separated fields in '.*test\.tsv', line 4, got 2"):
        load_rows("qqp", folder, with_test=True)


@pytest.mark.parametrize("task", GLUE)
def test_a_label_outside_the_set_is_named(task, write_glue):
    folder = write_glue(task)

    def damage(lines):
        columns = (lines[0].lstrip("\ufeff") if task != "cola" else "\tlabel").split("\t")
        fields = lines[5].split("\t")
        fields[columns.index(TASKS[task].label_column)] = "7"
        lines[5] = "\t".join(fields)

    damaged(folder / TASKS[task].folder, f"{'dev_mismatched' if task == 'mnli' else 'dev'}.tsv", damage)
    with pytest.raises(ValueError, match=r"Expected a (label of \[|score from 0 to 5).* line 6, got '7'"):
        load_rows(task, folder)


@pytest.mark.parametrize("score", ["high", "", "-0.1", "5.001", "nan", "inf"])
def test_a_score_that_is_none_is_named(score, write_glue):
    folder = write_glue("stsb")

    def damage(lines):
        lines[2] = f"{without_last_field(lines[2])}\t{score}"

    damaged(folder / "STS-B", "train.tsv", damage)
    with pytest.raises(ValueError, match=rf"a score from 0 to 5 in '.*train\.tsv', line 3, got '{re.escape(score)}'"):
        load_rows("stsb", folder)


@pytest.mark.parametrize("task", GLUE)
def test_a_file_without_rows_is_refused(task, write_glue):
    folder = write_glue(task)
    damaged(folder / TASKS[task].folder, "train.tsv", lambda lines: lines.__delitem__(slice(task != "cola", -1)))
    with pytest.raises(ValueError, match=r"Expected at least one row in '.*train\.tsv', got none"):
        load_rows(task, folder)


@pytest.mark.parametrize("task", GLUE)
def test_an_empty_file_is_refused(task, write_glue):
    folder = write_glue(task)
    (folder / TASKS[task].folder / "train.tsv").write_text("")
    with pytest.raises(ValueError, match=r"Expected (the columns|at least one row).*train\.tsv', got (\[\]|none)"):
        load_rows(task, folder)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_that_is_not_utf_8_is_named(write_glue, encoding):
    folder = write_glue("mrpc")
    path = folder / TASKS["mrpc"].folder / "train.tsv"
    path.write_text(path.read_text(encoding="utf-8-sig") + "1\t1\t2\tf\u00fcr\t\u00e0 b\n", encoding=encoding)
    with pytest.raises(ValueError, match=r"Expected UTF-8 text in '.*train\.tsv', got other bytes: .*Save the file as"):
        load_rows("mrpc", folder)


HUB_COLUMNS = {"cola": ["sentence"], "sst2": ["sentence"], "qqp": ["question1", "question2"]}
HUB_COLUMNS |= {"mnli": ["premise", "hypothesis"], "qnli": ["question", "sentence"]}


@pytest.mark.parametrize("task", GLUE)
def test_the_hub_gives_what_the_official_files_give(task, write_glue, monkeypatch):
    wanted = load_rows(task, write_glue(task), with_test=True)
    columns = HUB_COLUMNS.get(task, ["sentence1", "sentence2"])

    def as_on_the_hub(part):
        texts = {there: part[f"text_{letter}"][:] for there, letter in zip(columns, "ab", strict=False)}
        labels = part["label"][:] if "label" in part.column_names else [-1] * len(part)
        return rows.Dataset.from_dict({**texts, "label": labels, "idx": [*range(len(part))]})

    matched = [f"_{name}" for name in ("matched", "mismatched")] if task == "mnli" else [""]
    parts = {"train": as_on_the_hub(wanted.train)}
    parts |= {f"validation{n}": as_on_the_hub(part) for n, part in zip(matched, wanted.dev.values(), strict=True)}
    parts |= {f"test{n}": as_on_the_hub(part) for n, part in zip(matched, wanted.test.values(), strict=True)}
    monkeypatch.delenv("GLUE_DIR", raising=False)
    monkeypatch.setattr(rows.datasets, "load_dataset", lambda *asked: {("nyu-mll/glue", task): parts}[asked])
    found = load_rows(task, with_test=True)
    assert found.train.features == wanted.train.features
    assert found.train[:] == wanted.train[:]
    for there, here in ((found.dev, wanted.dev), (found.test, wanted.test)):
        assert {name: part[:] for name, part in there.items()} == {name: part[:] for name, part in here.items()}
