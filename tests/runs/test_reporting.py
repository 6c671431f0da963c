"""The end of a run."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from axformer_lightning.artifacts.files import PLAN_FILE
from axformer_lightning.runs import reporting
from axformer_lightning.tasks import TASKS, TextData


@pytest.mark.parametrize("task", ["stsb", "rte"])
def test_a_model_that_has_diverged_leaves_no_predictions(tmp_path, task, caplog):
    (stem,) = TASKS[task].test
    path = tmp_path / "predictions" / f"{stem}.tsv"
    run = SimpleNamespace(directory=tmp_path, module=SimpleNamespace(task=TASKS[task]), data=Mock(spec=TextData))
    for said, is_written in (([1.0, 0.0], True), ([1.0, torch.nan], False)):
        trainer = Mock(**{"predict.return_value": [torch.tensor(said)]})
        reporting.predict_test(run, trainer, {stem: None})
        assert path.exists() == is_written
    assert f"'{stem}.tsv' is not written. Expected a prediction for each sample, got none for 1 of 2" in caplog.text


def test_predictions_of_a_former_run_go_where_none_are_asked_for_and_those_of_other_tasks_stay(tmp_path):
    (tmp_path / "predictions").mkdir()
    for name in ("RTE.tsv", "MRPC.tsv"):
        (tmp_path / "predictions" / name).touch()
    reporting.predict_test(SimpleNamespace(directory=tmp_path, module=SimpleNamespace(task=TASKS["rte"])), Mock(), {})
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == ["MRPC.tsv"]


def test_models_of_ratios_that_were_not_made_go_and_those_of_the_user_stay(tmp_path):
    names = ("model", "model-2x", "model-1.5x", "model-1e+06x", "model-of mine", "model-2x-kept")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / PLAN_FILE).touch()
    reporting._remove_former(tmp_path, ["finetuned", "model-2x", "model"])
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model-2x", "model-of mine", "model-2x-kept"}
