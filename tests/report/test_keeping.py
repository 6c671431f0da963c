import re

import pytest

from axformer_lightning.report.__main__ import main
from axformer_lightning.report.keeping import keep_records
from axformer_lightning.report.page import write_report
from axformer_lightning.report.records import read_records
from tests.report.runs import write_run, write_unfinished


def text_of(directory):
    """The page without the time when it was written, and without the directory that its commands name."""
    write_report(directory)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", (directory / "report.md").read_text(encoding="utf-8"))


def test_a_page_of_records_says_what_that_of_the_runs_does(tmp_path, undrawn):
    runs, records = tmp_path / "runs", tmp_path / "records"
    for seed in range(3):
        write_run(runs / "cut" / str(seed), "tolerance=0", seed=seed, dense=0.7, cut=0.9)
        write_run(runs / "dense" / str(seed), seed=seed, dense=0.7, cut=0.75, retrain_dense=True)
        (runs / "cut" / str(seed) / "model").mkdir(exist_ok=True)
        (runs / "cut" / str(seed) / "model" / "model.safetensors").write_bytes(b"weights")
    assert len(keep_records(runs, records)) == 6
    assert text_of(records).replace(str(records), "") == text_of(runs).replace(str(runs), "")
    assert list(records.rglob("dev_predictions.npz"))
    assert not list(records.rglob("*.safetensors"))


def test_what_is_not_done_replaces_no_record(tmp_path, capsys):
    write_run(tmp_path / "runs" / "0", seed=0)
    write_run(tmp_path / "runs" / "1", seed=1)
    assert main([str(tmp_path / "runs"), "--records", str(tmp_path / "records")]) == 0
    assert capsys.readouterr().out == f"2 runs kept in {tmp_path / 'records'}.\n"
    kept = (tmp_path / "records" / "1" / "results.json").read_bytes()
    (tmp_path / "runs" / "1" / "results.json").unlink()
    assert keep_records(tmp_path / "runs", tmp_path / "records") == ["0"]
    assert (tmp_path / "records" / "1" / "results.json").read_bytes() == kept


def test_single_runs_are_kept_side_by_side(tmp_path, monkeypatch):
    for seed in range(2):
        write_run(tmp_path / "runs" / f"seed-{seed}", seed=seed)
    assert keep_records(tmp_path / "runs" / "seed-0", tmp_path / "records") == ["seed-0"]
    monkeypatch.chdir(tmp_path / "runs" / "seed-1")
    assert main([".", "--records", str(tmp_path / "records")]) == 0
    assert [record.name for record in read_records(tmp_path / "records")] == ["seed-0", "seed-1"]


def test_nothing_stays_of_an_older_run_by_the_same_name(tmp_path):
    run, kept = tmp_path / "runs" / "0", tmp_path / "records" / "0"
    write_run(run)
    keep_records(tmp_path / "runs", tmp_path / "records")
    for file in ("damage.json", "model/dev_predictions.npz"):
        (run / file).unlink()
        assert (kept / file).exists()
    (kept / "notes.txt").write_text("one's own")
    keep_records(tmp_path / "runs", tmp_path / "records")
    assert [(kept / file).exists() for file in ("damage.json", "model/dev_predictions.npz")] == [False, False]
    assert (kept / "results.json").exists()
    assert (kept / "notes.txt").exists()


def test_records_are_refused_inside_of_the_runs_and_where_nothing_is_done(tmp_path, capsys):
    write_unfinished(tmp_path / "runs" / "0")
    with pytest.raises(ValueError, match=r"runs that are done in '.*runs', found none"):
        keep_records(tmp_path / "runs", tmp_path / "records")
    for target in (tmp_path, tmp_path / "runs", tmp_path / "runs" / "records"):
        assert main([str(tmp_path / "runs"), "--records", str(target)]) == 1
        assert "Expected a directory apart from" in capsys.readouterr().err


def test_a_floor_is_asked_of_a_page_alone(tmp_path, capsys):
    write_run(tmp_path / "runs" / "0")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "runs"), "--records", str(tmp_path / "records"), "--floor", "1"])
    assert "--floor: not allowed with argument --records" in capsys.readouterr().err
    assert not (tmp_path / "records").exists()
