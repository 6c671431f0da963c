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


@pytest.mark.slow_but_first
@QUIET
@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ([], ["fine-tuned", "searched and cut", "searched and cut, retrained"]),
        (["retrain_dense=true"], ["fine-tuned", "retrained"]),
        (["retrain_dense=true", "hard_attention=none"], ["fine-tuned", "retrained"]),
        (
            ["retrain_epochs=0", "int8=default", "int8.tolerance=9", "int8_retrain_epochs=1"],
            ["fine-tuned", "searched and cut", "in int8", "in int8, retrained"],
        ),
        (
            ["pruning.rounds=2"],
            [
                *("fine-tuned", "searched and cut", "searched and cut, retrained"),
                *("searched and cut, round 2", "searched and cut, retrained, round 2"),
            ],
        ),
    ],
)
def test_each_stage_has_a_row_that_says_what_was_done(write_glue, tmp_path, monkeypatch, words, rows):
    search = train.stages._search
    monkeypatch.setattr(train.stages, "_search", lambda *how: search(*how) | {"accepted": 1})
    monkeypatch.setattr(train.stages, "_fit", lambda *_: None)
    monkeypatch.setattr(train.reporting, "latencies_ms", no_latencies)
    words = ["task=mrpc", *SMALL, "retrain_epochs=1", "report_stages=true", f"data_dir={write_glue('mrpc')}", *words]
    results = train.train(configuration(*words), tmp_path)
    assert [row["stage"] for row in results["stages"]] == rows
    dense, last = (results[side]["encoder_parameters"] for side in ("baseline", "axformer"))
    assert [row["encoder_parameters"] for row in results["stages"]] == [dense, *[last] * (len(rows) - 1)]
