"""Sweeps of train.py by the engines of others, in processes of their own."""

import os
import signal
import sqlite3
import time

import pytest

from tests.multirun.sweeping import jobs, outcomes, processes_of, start, sweep

pytestmark = pytest.mark.exhaustive
STUDY = [
    "hydra/sweeper=optuna", "data.max_search_samples=range(8,33)", "returned=[headline,latency]",
    "hydra.sweeper.n_trials=4", "hydra.sweeper.prune=0.01", "hydra.sweeper.prune_after=1", "sweep.jobs=2",
]  # fmt: skip


def trials_of(directory):
    """Return the trials of a study, their settings and values, and what they had before their retraining."""
    what = {
        "trials": "state",
        "trial_params": "param_name, param_value",
        "trial_values": "objective, value",
        "trial_user_attributes": "key, value_json",
    }
    with sqlite3.connect(directory / "study.db") as base:
        commands = [f"select trial_id, {columns} from {table} order by 1, 2" for table, columns in what.items()]
        return [base.execute(command).fetchall() for command in commands]


def test_a_study_that_is_killed_goes_on_and_ends_as_an_undisturbed_one(tmp_path):
    pytest.importorskip("optuna")
    status, said = sweep(tmp_path / "whole", *STUDY)
    assert status == 0, said
    assert (tmp_path / "whole" / "optimization_results.yaml").is_file()
    for _ in range(2):
        with start(tmp_path / "killed", *STUDY) as driver:
            while not processes_of(tmp_path / "killed"):
                time.sleep(0.1)
            os.kill(processes_of(tmp_path / "killed")[0], signal.SIGKILL)  # goes on at once
            time.sleep(5)
            os.kill(driver.pid, signal.SIGKILL)
            driver.communicate()
    status, said = sweep(tmp_path / "killed", *STUDY)
    assert status == 0, said
    assert trials_of(tmp_path / "killed") == trials_of(tmp_path / "whole")
    assert {"PRUNED", "COMPLETE"} == {state for _, state in trials_of(tmp_path / "whole")[0]}
    assert outcomes(tmp_path / "killed") == outcomes(tmp_path / "whole")


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_other_launchers_skip_what_is_done(tmp_path, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    sweep(tmp_path, "seed=0")
    before = outcomes(tmp_path), (jobs(tmp_path)[0] / "results.json").stat().st_mtime_ns
    status, said = sweep(tmp_path, "seed=0", f"hydra/launcher={launcher}")
    assert status == 0, said
    assert (outcomes(tmp_path), (jobs(tmp_path)[0] / "results.json").stat().st_mtime_ns) == before
