"""Whole sweeps of train.py, in processes of their own."""

import pytest

from tests.multirun.killing import compare
from tests.multirun.sweeping import jobs, states, sweep

pytestmark = pytest.mark.exhaustive


def test_a_sweep_that_is_killed_at_random_moments_ends_as_an_undisturbed_one(tmp_path):
    killed, _ = compare(tmp_path, kills=3, seed=1)
    assert sum(killed.values()) == 3


def test_one_failure_stops_no_other_and_shows_in_table_and_status(tmp_path):
    status, said = sweep(tmp_path, "task.headline=accuracy,pearson", "seed=0")
    assert status == 1
    assert {state["state"] for state in states(tmp_path).values()} == {"done", "failed"}
    assert "1 of 2 jobs done" in said
    assert f"All runs on one page: {tmp_path / 'report.html'}" in said
    assert "1 done, 1 failed" in (tmp_path / "report.md").read_text()
    assert "1 of 2 jobs have not ended well" in said


def test_several_devices_are_refused_with_the_reason(tmp_path):
    status, said = sweep(tmp_path, "seed=0", "trainer.devices=2")
    assert status == 1
    assert "Expected one device, got 2" in said


def test_pages_that_were_being_drawn_as_the_sweep_was_killed_are_drawn_anew(tmp_path):
    assert sweep(tmp_path, "seed=0")[0] == 0
    (job,) = jobs(tmp_path)
    halves = [folder / "report" / "plan.png.abcd_123.tmp" for folder in (job, tmp_path)]
    for half in halves:
        half.write_text("half")
    (job / "report.html").unlink()
    assert sweep(tmp_path, "seed=0")[0] == 0
    assert (job / "report.html").exists()
    assert not any(half.exists() for half in halves)
