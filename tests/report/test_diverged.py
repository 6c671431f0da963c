"""Runs of models that have diverged: results.json has null for a metric that is no number."""

import json

import pytest

from axformer_lightning.report.page import write_report
from axformer_lightning.report.records import read_records
from tests.report.runs import write_json, write_run


def diverge(run, side):
    results = json.loads((run / "results.json").read_text())
    results[side]["metrics"] = {"accuracy": None}
    write_json(run / "results.json", results)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["baseline", "axformer"])
def test_a_run_that_has_diverged_is_done_and_its_page_says_so(side, tmp_path):
    write_run(tmp_path, "tolerance=0")
    diverge(tmp_path, side)
    assert read_records(tmp_path)[0].is_done
    write_report(tmp_path)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Leave out the run that has diverged, or repeat it." in page
    assert "AxFormer (no number)" in page
    assert "nan" not in page


@pytest.mark.slow
def test_what_else_is_in_a_sweep_keeps_its_numbers_and_its_pictures(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"well-{seed}", "tolerance=0", seed=seed, dense=0.7, cut=0.9)
        write_run(tmp_path / f"lost-{seed}", "tolerance=1", seed=seed, dense=0.7, cut=0.9)
    diverge(tmp_path / "lost-1", "axformer")
    write_report(tmp_path)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    (well,), (lost,) = ([line for line in page.splitlines() if f"| tolerance={i} | accuracy" in line] for i in (0, 1))
    assert "±" in well
    assert "| 2 | no number |" in lost
    assert {"gains.svg", "front-mrpc-some-model.svg"} <= {path.name for path in (tmp_path / "report").iterdir()}


def test_a_model_of_a_ratio_that_has_diverged_is_told_of(tmp_path):
    write_run(tmp_path, "ratios=2")
    kept = json.loads((tmp_path / ".resume" / "run.json").read_text())
    kept["configuration"]["pruning"]["ratios"] = [2, 3]
    write_json(tmp_path / ".resume" / "run.json", kept)
    point = {"encoder_size": 0.5, "file_size": 0.5, "metrics": {"accuracy": None}}
    write_json(tmp_path / "pareto.json", [{**point, "artifact": name} for name in ("finetuned", "model-2x", "model")])
    (record,) = read_records(tmp_path)
    assert [model.label for model in record.models] == ["2x", "3x"]
