"""Both versions of SQuAD, from their official files, or what the hub gives, to results.json."""

import json

import pytest

from axformer_lightning.evidence import Predictions
from axformer_lightning.tasks import load_rows, rows
from tests.runs.runs import QUIET, run
from tests.tasks.squad.official import write_squad

V1 = ["exact_match", "f1"]
WINDOWS = ["data.max_length=64", "data.doc_stride=16", "data.max_search_samples=6", "data.search_fraction=0.25"]


@pytest.fixture
def folder(tmp_path):
    return write_squad(write_squad(tmp_path, "1.1"), "2.0")


def check_predictions(directory, side, results):
    """Fail unless what is kept of each question has the reported metrics as its means."""
    said = Predictions.load(directory / {"baseline": "finetuned", "axformer": "model"}[side])
    assert {name: float(said.value(name)) for name in V1} == pytest.approx(
        {name: results[side]["metrics"][name] for name in V1}, abs=1e-5
    )


@pytest.mark.slow_but_first
@QUIET
@pytest.mark.parametrize("options", [[], ["pruning.criterion=metric", "task.headline=exact_match", "retrain_epochs=1"]])
def test_squad_goes_from_its_official_files_to_results(folder, tmp_path, options):
    directory = tmp_path / "run"
    results = run(directory, "task=squad", f"data_dir={folder}", *WINDOWS, *options)
    assert json.loads((directory / "results.json").read_text()) == results
    assert results["search"]["candidates"] > 0
    for side in ("baseline", "axformer"):
        assert list(results[side]["metrics"]) == V1
        assert all(0 <= value <= 1 for value in results[side]["metrics"].values())
        check_predictions(directory, side, results)
    plan = json.loads((directory / "plan.json").read_text())
    assert 0 < max(decision["samples_seen"] for decision in plan["decisions"]) <= 6  # questions, not windows


@pytest.mark.slow
@QUIET
def test_squad_v2_reports_what_the_official_script_does(folder, tmp_path):
    results = run(tmp_path / "run", "task=squad_v2", f"data_dir={folder}", *WINDOWS)
    shares = [f"{part}{name}" for name in V1 for part in ("", "has_answer_", "no_answer_", "best_")]
    thresholds = [f"best_{name}_threshold" for name in V1]
    for side in ("baseline", "axformer"):
        assert set(results[side]["metrics"]) == {*shares, *thresholds}
        assert all(0 <= results[side]["metrics"][name] <= 1 for name in shares)
        check_predictions(tmp_path / "run", side, results)


def test_the_environment_names_the_directory(folder, monkeypatch):
    monkeypatch.setenv("GLUE_DIR", "/nowhere")
    monkeypatch.setenv("SQUAD_DIR", str(folder))
    train, dev, test = load_rows("squad")
    assert (len(train), len(dev[""]), test) == (40, 40, {})
    assert any(not answers["text"] for answers in load_rows("squad_v2").train["answers"])


@pytest.mark.parametrize("task", ["squad", "squad_v2"])
def test_the_hub_gives_what_the_official_files_give(task, folder, monkeypatch):
    wanted = load_rows(task, folder)
    hub = {"train": wanted.train, "validation": wanted.dev[""]}
    monkeypatch.delenv("SQUAD_DIR", raising=False)
    monkeypatch.setattr(rows.datasets, "load_dataset", lambda *asked: {(f"rajpurkar/{task}",): hub}[asked])
    found = load_rows(task)
    assert found.train[:] == wanted.train[:]
    assert found.dev[""][:] == wanted.dev[""][:]


def test_a_hub_that_does_not_answer_is_told_with_the_files_to_get(monkeypatch):
    def load_dataset(*args):
        raise ConnectionError("no route")

    monkeypatch.delenv("SQUAD_DIR", raising=False)
    monkeypatch.setattr(rows.datasets, "load_dataset", load_dataset)
    with pytest.raises(ConnectionError, match=r"SQUAD_DIR.*DIR/train-v2\.0\.json, DIR/dev-v2\.0\.json"):
        load_rows("squad_v2")


def test_the_files_of_the_other_version_are_refused(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for part in ("train", "dev"):
        (other / f"{part}-v1.1.json").write_text((folder / f"{part}-v2.0.json").read_text())
    with pytest.raises(ValueError, match=r"train-v1\.1\.json.*task=squad_v2"):
        load_rows("squad", other)
