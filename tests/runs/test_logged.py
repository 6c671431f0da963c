"""What loggers hear of a search and of the results."""

import matplotlib.image
import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger

from axformer_lightning.anatomy import Candidate
from axformer_lightning.replay import Score
from axformer_lightning.report import SearchProgress
from axformer_lightning.runs.configured import loggers_for
from axformer_lightning.runs.logged import log_results, told_of_search
from axformer_lightning.search import Trial
from tests.runs.runs import configuration

SIDE = {"metrics": {"accuracy": 0.5}, "parameters": 20, "encoder_parameters": 10, "size_bytes": 80}
SIDE |= {"latency_ms": {"batch1": 1.0}, "macs_per_sample": 5}
RESULTS = {"task": "mrpc", "model": "tiny", "seed": 0, "baseline": SIDE, "axformer": SIDE | {"encoder_parameters": 4}}
RESULTS |= {"device": "cpu", "accepted": 1}


@pytest.fixture
def picture(tmp_path):
    matplotlib.image.imsave(tmp_path / "plan.png", np.zeros((4, 4, 3)))
    return tmp_path / "plan.png"


def test_each_candidate_is_logged_with_its_loss_if_it_has_one_and_the_best(tmp_path):
    logger = CSVLogger(tmp_path, name="logs", version="search1")
    trials = [
        Trial(Candidate("head", 2, 6), Score(None, 1, 2), Score(0.5, 4, 4), accepted=False),  # stopped early
        Trial(Candidate("head", 2, 5), Score(0.4, 3, 4), Score(0.5, 4, 4), accepted=True),
        Trial(Candidate("head", 2, 4), Score(0.6, 3, 4), Score(0.4, 4, 4), accepted=False),
    ]
    with SearchProgress(2, enabled=False) as progress, told_of_search([logger], progress) as on_trial:
        for trial in trials:
            on_trial(trial)
    head, *rows = (tmp_path / "logs" / "search1" / "metrics.csv").read_text().splitlines()
    found = [dict(zip(head.split(","), row.split(","), strict=True)) for row in rows]
    assert [row["search/loss"] for row in found] == ["", "0.4", "0.6"]
    assert [row["search/best_loss"] for row in found] == ["0.5", "0.4", "0.4"]
    assert [row["step"] for row in found] == ["1", "2", "3"]


def test_several_loggers_get_the_results_and_the_removed_share(tmp_path, picture):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_results(loggers_for(configuration("logger=[csv,tensorboard]").logger, tmp_path, "report"), RESULTS, picture)
    assert "removed" in (tmp_path / "logs" / "report" / "metrics.csv").read_text().splitlines()[0]
    events = EventAccumulator(str(tmp_path / "tensorboard" / "report"))
    events.Reload()
    assert events.Scalars("removed")[0].value == pytest.approx(0.6)
    assert events.Tags()["images"] == ["plan"]
    assert "results/text_summary" in events.Tags()["tensors"]


@pytest.mark.exhaustive
def test_wandb_offline_keeps_a_run_for_each_stage(tmp_path, picture, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for stage in ("search1", "report"):
        log_results(loggers_for(configuration("logger=wandb").logger, tmp_path, stage), RESULTS, picture)
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 2


@pytest.mark.exhaustive
def test_mlflow_keeps_metrics_picture_and_table_in_files(tmp_path, picture):
    pytest.importorskip("mlflow")
    log_results(loggers_for(configuration("logger=mlflow").logger, tmp_path, "report"), RESULTS, picture)
    assert {path.name for path in tmp_path.glob("mlruns/*/*/artifacts/*")} == {"plan.png", "results.txt"}
    assert list(tmp_path.glob("mlruns/*/*/metrics/removed"))


def test_no_logger_hears_nothing(tmp_path, picture):
    assert loggers_for(configuration("logger=none").logger, tmp_path, "report") == []
    log_results([], RESULTS, picture)
