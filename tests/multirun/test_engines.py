"""Sweeps of train.py by the engines of others, in processes of their own."""

import os
import signal
import sqlite3
import time

import pytest

from tests.multirun.sweeping import jobs, outcomes, processes_of, start, sweep

pytestmark = pytest.mark.slow
STUDY = [
    "hydra/sweeper=optuna", "pruning.tolerance=interval(0,0.5)", "hard_attention.k=1,4", "returned=[headline,latency]",
    "hydra.sweeper.n_trials=4", "hydra.sweeper.prune=0.01", "hydra.sweeper.prune_after=1", "retrain_epochs=1",
    "sweep.jobs=2",
]  # fmt: skip


def trials_of(directory):
    """Return the trials of a study: what was asked, how they stand, and the values of those that are complete."""
    with sqlite3.connect(directory / "study.db") as base:
        params = base.execute(
            "select trial_id, param_name, param_value from trial_params order by trial_id, param_name"
        )
        ended = base.execute("select trial_id, state from trials order by trial_id")
        values = base.execute("select trial_id, objective, value from trial_values order by trial_id, objective")
        return params.fetchall(), ended.fetchall(), values.fetchall()


def test_a_study_that_is_killed_goes_on_and_ends_as_an_undisturbed_one(tmp_path):
    pytest.importorskip("optuna")
    status, said = sweep(tmp_path / "whole", *STUDY)
    assert status == 0, said
    assert (tmp_path / "whole" / "optimization_results.yaml").is_file()
    for _ in range(2):
        with start(tmp_path / "killed", *STUDY) as driver:
            while not processes_of(tmp_path / "killed"):
                time.sleep(0.1)
            time.sleep(5)
            os.kill(driver.pid, signal.SIGKILL)
            driver.communicate()
    status, said = sweep(tmp_path / "killed", *STUDY)
    assert status == 0, said
    assert trials_of(tmp_path / "killed") == trials_of(tmp_path / "whole")
    done = [
        {name for name, state in states(tmp_path / place).items() if state["state"] == "done"}
        for place in ("whole", "killed")
    ]
    assert done[0] == done[1]


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_other_launchers_skip_what_is_done(tmp_path, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    sweep(tmp_path, "seed=0")
    before = outcomes(tmp_path), (jobs(tmp_path)[0] / "results.json").stat().st_mtime_ns
    status, said = sweep(tmp_path, "seed=0", f"hydra/launcher={launcher}")
    assert status == 0, said
    assert (outcomes(tmp_path), (jobs(tmp_path)[0] / "results.json").stat().st_mtime_ns) == before
