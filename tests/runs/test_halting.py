"""A run that stops before its retraining, for its sweep to judge, and goes on."""

import pytest
import torch

import train
from axformer_lightning.runs import halting
from axformer_lightning.runs.configured import returned_value
from axformer_lightning.runs.halting import read_halted
from axformer_lightning.runs.state import Halted, read_state
from tests.runs.runs import QUIET, SMALL, configuration, outcome


@pytest.fixture
def options(write_glue, monkeypatch):
    for module in (train.reporting, halting):
        monkeypatch.setattr(module, "latencies_ms", lambda models, length: {key: {"batch1": 2.5} for key in models})
    return ["task=mrpc", *SMALL, f"data_dir={write_glue('mrpc')}"]


@pytest.mark.slow
@QUIET
@pytest.mark.parametrize(
    ("words", "stage"),
    [
        (["retrain_epochs=1", "returned=[headline,removed,latency]"], "retrain1"),
        (["int8=default", "int8_retrain_epochs=1", "int8.tolerance=9"], "int8_retrain1"),
    ],
)
def test_a_run_that_halts_says_how_it_stands_and_goes_on_as_if_it_had_not(options, tmp_path, words, stage):
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    whole.mkdir()
    halted.mkdir()
    results = train.train(configuration(*options, *words), whole)
    for _ in range(2):  # asked twice it stops twice
        with pytest.raises(Halted):
            train.train(cfg := configuration(*options, *words, "sweep.halt=true", "resume=true"), halted)
        assert (read_state(halted).state, read_state(halted).stage) == ("halted", stage)
    assert not (halted / "results.json").exists()
    stood = read_halted(halted)
    assert "loss" in stood["axformer"]["metrics"]  # of the search set, of which dev knows nothing
    values = returned_value(cfg, stood)
    if stage == "retrain1":
        assert values[1] == pytest.approx(returned_value(cfg, results)[1])  # retraining removes nothing
        assert values[2] == 2.5
    train.train(configuration(*options, *words, "resume=true"), halted)
    assert read_halted(halted) is None
    found = [outcome(directory) for directory in (halted, whole)]
    for said, _ in found:
        said.get("int8", {}).pop("seconds", None)
    assert found[0] == found[1]


@pytest.mark.slow
@QUIET
def test_a_run_that_retrains_nothing_does_not_halt(options, tmp_path):
    assert train.train(configuration(*options, "sweep.halt=true"), tmp_path)["accepted"] >= 0


@pytest.mark.slow
@QUIET
def test_a_model_of_half_precision_is_timed_as_results_time_it(options, tmp_path, monkeypatch):
    timed, original = [], halting.latencies_ms

    def latencies_ms(models, length):
        timed.extend(model.dtype for model in models.values())
        return original(models, length)

    monkeypatch.setattr(halting, "latencies_ms", latencies_ms)
    words = "retrain_epochs=1", "returned=[headline,latency]", "trainer.precision=bf16-true", "sweep.halt=true"
    with pytest.raises(Halted):
        train.train(configuration(*options, *words), tmp_path)
    assert timed == [torch.float32]


@pytest.mark.parametrize(
    ("returned", "got"),
    [("[headline,speed]", r"\['speed'\]"), ("[]", "none"), ("null", r"\['None'\]"), ("3", r"\['3'\]")],
)
def test_what_a_sweeper_gets_is_checked(options, tmp_path, returned, got):
    with pytest.raises(ValueError, match=f"some of headline, removed, latency, got {got}"):
        train.train(configuration(*options, f"returned={returned}"), tmp_path)
