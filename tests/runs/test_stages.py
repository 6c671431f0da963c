"""The stages of a run."""

import pytest

import train
from axformer_lightning.search import SearchCounts
from tests.runs.runs import QUIET, SMALL, configuration, no_latencies


@pytest.mark.slow_but_first
@QUIET
@pytest.mark.parametrize("on_all", [True, False])
def test_a_last_retraining_that_does_not_come_is_told(write_glue, tmp_path, monkeypatch, caplog, on_all):
    nothing = train.stages._added_up(SearchCounts())
    monkeypatch.setattr(train.stages, "_search", lambda *_: nothing)
    monkeypatch.setattr(train.stages, "_fit", lambda *_: None)
    monkeypatch.setattr(train.reporting, "latencies_ms", no_latencies)
    options = ["pruning.rounds=2", "retrain_epochs=1", f"retrain_on_all={on_all}", f"data_dir={write_glue('mrpc')}"]
    train.train(configuration("task=mrpc", *SMALL, *options), tmp_path)
    assert ("Round 1 of 2 accepts nothing and is the last: `retrain_on_all`" in caplog.text) is on_all
