"""Jobs side by side, with commands that take no time in the place of train.py."""

import fcntl
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from axformer_lightning.multirun import driver
from axformer_lightning.multirun.driver import run_jobs
from axformer_lightning.multirun.jobs import Job
from axformer_lightning.multirun.slots import Slot
from axformer_lightning.multirun.table import detail, jobs_table, settings_of, state_of, time_left, told
from axformer_lightning.runs.state import State, read_state

HEAD = "import json, os, signal, sys, time; from pathlib import Path; here = Path(sys.argv[1])\n"
SAY = """
def say(state, **more):
    told = dict(state=state, reason="", stage="", began=time.time(), ended=None) | more
    (here / "state.json").write_text(json.dumps(told))
"""
GOOD = 'results = {"metrics": {"accuracy": 0.5}}; text = json.dumps({"baseline": results, "axformer": results})\n'
GOOD += '(here / "results.json").write_text(text); say("done", ended=time.time())'
ONE = [Slot(1)]


@pytest.fixture
def job(tmp_path):
    """Makes a job that runs a script."""

    def make(name, script=GOOD, *overrides):
        directory = tmp_path / name
        directory.mkdir()
        command = (sys.executable, "-c", HEAD + SAY + script, str(directory))
        return Job(directory, (f"name={name}", *overrides), command)

    return make


def run(jobs, slots=ONE, **options):
    return run_jobs(jobs, slots, on_change=lambda sweep: None, **options)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(driver, "PAUSE", 0.01)


def test_a_job_that_fails_stops_no_other_and_says_why(job):
    jobs = [job("a", "raise ValueError('no such task')"), job("b"), job("c", "say('running', stage='x'); os.abort()")]
    sweep = run(jobs)
    assert [state_of(sweep, one) for one in jobs] == ["failed", "done", "interrupted"]
    assert jobs[0].state.reason == "ValueError: no such task"
    assert (jobs[2].state.reason, jobs[2].state.stage) == ("Killed by SIGABRT.", "x")


@pytest.mark.parametrize(("status", "name"), [(143, "SIGTERM"), (130, "SIGINT")])
def test_a_job_that_is_stopped_before_it_has_said_anything_was_interrupted_and_has_not_failed(job, status, name):
    one = job("a", f"sys.exit({status})")
    run([one])
    assert (one.state.state, one.state.reason) == ("interrupted", f"Killed by {name}.")


def test_what_is_done_is_not_started_and_what_failed_only_when_asked(job):
    jobs = [
        job("a"),
        job("b", "say('failed', reason='no'); sys.exit(1)"),
        job("c", "say('interrupted'); sys.exit(143)"),
    ]
    run(jobs)
    for one in jobs:
        (one.directory / "job.log").unlink()
    run(jobs)
    assert [(one.directory / "job.log").exists() for one in jobs] == [False, False, True]
    run(jobs, retry=True)
    assert [(one.directory / "job.log").exists() for one in jobs] == [False, True, True]


def test_done_counts_only_with_results(job):
    one = job("a")
    State("done").write(one.directory)
    assert not one.is_done
    run([one])
    assert one.is_done


def test_a_new_reason_replaces_that_of_the_last_time(job):
    one = job("a", "sys.exit('no disk')")
    State("failed", "no memory").write(one.directory)
    run([one], retry=True)
    assert read_state(one.directory).reason == "no disk"


def test_as_many_run_at_a_time_as_there_are_slots(job, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    tell = "(here / 'slot').write_text(os.environ['OMP_NUM_THREADS'] + os.environ['CUDA_VISIBLE_DEVICES'])\n"
    jobs = [job(name, f"{tell}time.sleep(0.2)\n{GOOD}") for name in "abcd"]
    most, slots = [], [Slot(3, "0"), Slot(3, "1")]
    run_jobs(jobs, slots, on_change=lambda sweep: most.append(len(sweep.running)))
    assert max(most) == 2
    assert {(one.directory / "slot").read_text() for one in jobs} == {"30", "31"}


def test_threads_of_the_users_choice_stay(job, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    one = job("a", "(here / 'slot').write_text(os.environ['OMP_NUM_THREADS'])")
    run([one])
    assert (one.directory / "slot").read_text() == "7"


STOPPABLE = """
def stop(*_):
    say("interrupted", reason="Stopped.")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
say("running")
time.sleep(60)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_jobs_and_lets_them_say_so(job, signum):
    before = signal.getsignal(signum)
    jobs = [job("a", STOPPABLE), job("b")]
    waits = threading.Thread(target=_send_when, args=(jobs[0].directory / "state.json", signum))
    waits.start()
    sweep = run(jobs)
    waits.join()
    assert sweep.signum == signum
    assert [state_of(sweep, one) for one in jobs] == ["interrupted", "waiting"]
    assert jobs[0].state.reason == "Stopped."
    assert signal.getsignal(signum) == before


def test_jobs_do_not_outlive_a_sweep_that_cannot_go_on(job):
    one = job("a", STOPPABLE)

    def broken_pipe(sweep):
        if one.state:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_jobs([one], ONE, on_change=broken_pipe)
    assert one.state.state == "interrupted"


def test_a_job_that_does_not_listen_is_killed(job, monkeypatch):
    monkeypatch.setattr(driver, "GRACE", 0.3)
    one = job("a", "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('running'); time.sleep(60)")
    waits = threading.Thread(target=_send_when, args=(one.directory / "state.json", signal.SIGTERM))
    waits.start()
    run([one])
    waits.join()
    assert (one.state.state, one.state.reason) == ("interrupted", "Killed by SIGKILL.")


def _send_when(path, signum):
    while not path.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("ends", ["done", "running", "failed"])
def test_a_job_that_somebody_else_runs_is_waited_for(job, ends):
    one = job("a")
    State("running").write(one.directory)
    (one.directory / ".resume").mkdir()
    lock = (one.directory / ".resume" / "lock").open("a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    seen = []

    def look(sweep):
        seen.append(len(sweep.running))
        if len(seen) == 20:
            if ends == "done":
                (one.directory / "results.json").write_text(json.dumps({"axformer": {}}))
            State(ends).write(one.directory)
            lock.close()

    run_jobs([one], ONE, on_change=look)
    assert seen[:20] == [0] * 20
    assert one.is_done == (ends != "failed")  # what failed there is not tried again
    assert (one.directory / "job.log").exists() == (ends == "running")  # else it was done by the other


def test_a_metric_that_is_no_number_is_told_as_none(job):
    one = job("a")
    run([one])
    results = {"baseline": {"metrics": {"matthews": None}}, "axformer": {"metrics": {"matthews": 0.5}}}
    (one.directory / "results.json").write_text(json.dumps(results))
    assert detail(one, "done") == "matthews - -> 50.00"


def test_the_table_tells_settings_states_results_and_reasons(job):
    jobs = [job("a", GOOD, "x=1"), job("b", "raise ValueError('[so]')", "x=1")]
    sweep = run(jobs)
    assert settings_of(jobs) == {jobs[0]: "name=a", jobs[1]: "name=b"}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(jobs_table(sweep, jobs[0].directory.parent))
    said = " ".join(console.export_text().split())  # a long path breaks the title
    assert "1 of 2 jobs done" in said
    assert "accuracy 50.00 -> 50.00" in said
    assert "ValueError: [so]" in said


def test_the_table_shows_brackets_and_colons_as_they_are(job):
    words = "pruning.ratios=[2,3.2]", "pruning.k=[a,b]", "data_dir=/x/[red]/:fire:"
    jobs = [job("a[b]", "raise ValueError('[/so] [bold]')", *words), job("b")]
    sweep = run(jobs)
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(jobs_table(sweep, Path("/a/[blue]/:fire:")))
    said = console.export_text()
    for word in (*words, "a[b]", "/a/[blue]/:fire:", "ValueError: [/so] [bold]"):
        assert word in said
    assert "failed: a[b]" in (line := told(sweep, {})[0])
    assert line.endswith("ValueError: [/so] [bold]")  # no markup, so nothing is escaped


def test_the_rest_takes_as_long_as_what_is_done(job):
    jobs = [job(name) for name in "abc"]
    sweep = run(jobs[:1], [Slot(1), Slot(1)])
    assert time_left(sweep) == ""
    State("done", began=0.0, ended=100.0).write(jobs[0].directory)
    sweep.jobs, sweep.waiting = jobs, jobs[1:]
    assert time_left(sweep) == "about 0:01:40 left"


def test_a_line_is_printed_for_each_change_only(job):
    one, before, lines = job("a"), {}, []
    run_jobs([one], ONE, on_change=lambda sweep: lines.extend(told(sweep, before)))
    assert lines[-1] == f"done: a name=a {detail(one, 'done')}"
    assert len(lines) == len({*lines}) <= 2
