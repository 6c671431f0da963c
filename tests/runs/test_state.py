"""What a run says of itself."""

import os
import signal

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

import train
from axformer_lightning.runs.state import State, read_state, sigterm_raises, telling
from tests.runs.runs import QUIET, SMALL, configuration, no_latencies


def test_it_runs_in_a_stage_and_is_done(tmp_path):
    with telling(tmp_path) as tell:
        assert read_state(tmp_path).state == "running"
        tell("search1")
        assert read_state(tmp_path).stage == "search1"
        assert read_state(tmp_path).seconds is None
    state = read_state(tmp_path)
    assert (state.state, state.stage) == ("done", "search1")
    assert state.seconds >= 0


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (ValueError("first line\nlast line"), "failed", "last line"),
        (KeyError("a"), "failed", "KeyError: 'a'"),
        (KeyboardInterrupt(), "interrupted", "Stopped by the keyboard."),
        (SystemExit(3), "failed", "SystemExit: 3"),
        (SIGTERMException(1), "interrupted", "Stopped by SIGTERM."),
    ],
)
def test_it_says_why_it_ended(tmp_path, error, state, reason):
    with pytest.raises(type(error)), telling(tmp_path):
        raise error
    assert (read_state(tmp_path).state, read_state(tmp_path).reason) == (state, reason)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "fine"}', '{"states": "done"}'])
def test_what_cannot_be_read_says_nothing(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    assert read_state(tmp_path) is None


def test_sigterm_raises_in_the_block_only_and_leaves_the_handlers_of_others(tmp_path):
    with pytest.raises(SIGTERMException), sigterm_raises():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with sigterm_raises():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [1]


@pytest.mark.slow
@QUIET
def test_a_run_that_died_after_its_last_file_is_done_at_the_next_start(write_glue, tmp_path, monkeypatch):
    monkeypatch.setattr(train.reporting, "latencies_ms", no_latencies)
    cfg = configuration("task=mrpc", *SMALL, f"data_dir={write_glue('mrpc')}", "resume=true")
    train.train(cfg, tmp_path)
    State("running", began=1.0).write(tmp_path)
    monkeypatch.setattr(train, "run_stages", None)
    train.train(cfg, tmp_path)
    assert read_state(tmp_path).state == "done"


def test_a_job_that_failed_is_tried_again_when_asked_only(tmp_path):
    State("failed", "ValueError: no").write(tmp_path)
    with pytest.raises(RuntimeError, match=r"failed before: ValueError: no Set sweep.retry=true"):
        train.job_configuration(configuration(), tmp_path)
    job = train.job_configuration(configuration("sweep.retry=true"), tmp_path)
    assert job.resume
    assert job.sweep.dense_dir == str(tmp_path.parent / ".dense")
