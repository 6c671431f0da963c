"""`benchmark budget` and `benchmark budgets-summary` on a tiny model and invented rows in GLUE's official layout."""

import json
from shutil import copytree

import pytest
from matplotlib.image import imread

from axformer_lightning.benchmark import main
from axformer_lightning.sweeps import labelled_rows
from axformer_lightning.tasks import draw, split_off
from tests.benchmark.conftest import ROWS

pytestmark = pytest.mark.xdist_group("benchmark")  # one directory serves all
CHEAP = ("--methods", "top_layers,output_error", "--ratios", "1.9,1.3")


@pytest.fixture
def budget(run, directory):
    return lambda *options: run("budget", "--model", directory / "model", "--search-fraction", 0.4, *options)


@pytest.mark.slow
def test_every_method_is_compared_and_runs_are_summed_up(budget, tmp_path, capsys):
    options = ("--ratios", "1.9", "--tries", 0, "--table-samples", 4)
    out, plot = tmp_path / "0.json", tmp_path / "0.png"
    results = budget(*options, "--out", out, "--plot", plot)
    assert json.loads(out.read_text()) == results
    assert imread(plot).ndim == 3
    assert (results["metric"], results["samples"], results["ratios"]) == ("accuracy", ROWS * 0.4, [1.9])
    assert results["command"].startswith("python -m axformer_lightning.benchmark budget --task mrpc")
    dense, *found = results["results"]
    names = ["ours", "unrepaired", "output_error", "magnitude", "taylor", "top_layers"]
    assert [one["method"] for one in found] == names
    assert all(one["report"]["encoder_parameters"] < dense["report"]["encoder_parameters"] for one in found)
    head, _, *rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0] for row in rows] == ["| dense", *(f"| {name}" for name in names)]
    assert {row.count("|") for row in rows} == {head.count("|")}

    other, summed, picture = tmp_path / "1.json", tmp_path / "sum.json", tmp_path / "sum.png"
    budget(*CHEAP, "--seed", 1, "--out", other)
    capsys.readouterr()
    summary = main(["budgets-summary", str(out), str(other), "--out", str(summed), "--plot", str(picture)])
    assert json.loads(summed.read_text()) == summary
    assert imread(picture).ndim == 3
    runs = {(gain["method"], gain["ratio"]): gain["runs"] for gain in summary["gains"]}
    assert runs["output_error", 1.9] == 2
    assert runs["ours", 1.9] == runs["output_error", 1.3] == 1
    *conditions, _, head, _, first = capsys.readouterr().out.splitlines()[:6]
    assert [results["command"] in line and str(results["commit"]) in line for line in conditions] == [True, False]
    assert head.count("|") == first.count("|")


def test_the_rows_that_decide_are_those_that_train_py_holds_out(budget, directory, monkeypatch):
    seen = {}

    def stop(*args, **options):
        seen.update(options)
        return iter(())

    def keep_rows(rows, *args):
        seen.setdefault("rows", []).append(rows["text_a"][:])
        return []

    monkeypatch.setattr("axformer_lightning.benchmark.budget.compare_budgets", stop)
    monkeypatch.setattr("axformer_lightning.benchmark.budget.batches_of", keep_rows)
    results = budget("--seed", 3, "--search-samples", 10, "--ratios", "1.9,1.3")
    rows = labelled_rows("mrpc", str(directory / "glue"))
    _, held_out = split_off(rows.train, 0.4, 3)
    assert seen["rows"] == [draw(held_out, 10, 3)["text_a"][:], rows.dev[""]["text_a"][:]]
    assert results["samples"] == 10
    assert seen["ratios"] == [1.3, 1.9]
    budget("--search-samples", ROWS)  # no more than there are
    assert len(seen["rows"][2]) == ROWS * 0.4


@pytest.mark.slow
def test_a_comparison_goes_on_where_it_was_killed(budget, tmp_path, monkeypatch):
    out = tmp_path / "budget.json"
    options = (*CHEAP[2:], "--epochs", 1, "--out", out, "--resume", "--methods")
    first = budget(*options, "top_layers,output_error")
    assert all(one["retrained"]["loss"] != one["report"]["loss"] for one in first["results"])
    killed = json.loads(out.read_text())
    del killed["results"][-1]  # the last ratio of the last method
    out.write_text(json.dumps(killed))
    trained = []
    monkeypatch.setattr(
        "axformer_lightning.benchmark.budget.train_again", lambda model, **options: trained.append(model)
    )
    whole = budget(*options, "top_layers,output_error")
    assert len(trained) == 2  # both ratios of output_error
    assert whole["results"][:-2] == first["results"][:-2]
    assert json.loads(out.read_text()) == whole
    only = budget(*options, "top_layers")
    assert only["results"] == first["results"][:-2]
    assert json.loads(out.read_text())["results"] == whole["results"]  # what was not asked for again is not lost
    with pytest.raises(ValueError, match=r"same run with --resume, got another one: it differs in \['rows', 'seed'\]"):
        budget(*options, "top_layers", "--seed", 3)


def test_what_cannot_be_compared_is_refused(budget, monkeypatch, capsys):
    with pytest.raises(ValueError, match=r"Expected `--methods` out of \['ours', .*\], got \['nothing'\]"):
        budget("--methods", "ours,nothing")
    with pytest.raises(ValueError, match=r"a metric of the task, \['accuracy', 'f1'\], got 'nothing'"):
        budget("--metric", "nothing")
    with pytest.raises(ValueError, match=r"Expected ratios above 1 and up to .*, got 1000"):
        budget("--ratios", "2,1000")
    monkeypatch.setattr("axformer_lightning.sweeps.importance.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"the extra `bench`"):
        budget("--methods", "ours,taylor")
    assert capsys.readouterr().out == ""  # nothing was searched in vain


def test_rows_that_the_run_was_trained_on_are_refused(directory, budget, tmp_path):
    run = tmp_path / "run"
    copytree(directory / "model", run / "finetuned")
    (run / ".hydra").mkdir()
    (run / ".hydra" / "config.yaml").write_text("seed: 3\ntask: {name: mrpc}\ndata: {search_fraction: 0.4}\n")
    with pytest.raises(ValueError, match=r"rows that the run of '.*' held out, .* Pass --seed 3, or --rows"):
        budget(*CHEAP, "--model", run / "finetuned")
    with pytest.raises(ValueError, match=r"Pass --search-fraction 0.4 --seed 3, or --rows"):
        budget(*CHEAP, "--model", run / "finetuned", "--search-fraction", 0.2)
    assert budget(*CHEAP, "--model", run / "finetuned", "--seed", 3)["seed"] == 3
    (tmp_path / "rows.json").write_text(json.dumps([*range(12)]))
    assert budget(*CHEAP, "--model", run / "finetuned", "--rows", tmp_path / "rows.json")["samples"] == 12


@pytest.mark.parametrize("ratios", ["1", "x", "2,", "nan"])
def test_ratios_are_numbers_above_1(budget, ratios, capsys):
    with pytest.raises(SystemExit):
        budget("--ratios", ratios)
    assert "expected numbers above 1, such as 2,3.2, got" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", '{"task": "mrpc", "metric": "f1", "rules": []}'])
def test_only_files_of_budget_are_summed_up(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"Expected a file that `budget --out` has written, got '{path}'"):
        main(["budgets-summary", str(path)])
