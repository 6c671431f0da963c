"""What a run leaves of its dev set and of where it ran, and the page that it ends in."""

import json
from types import SimpleNamespace

import pytest
import torch

from axformer_lightning.evidence import Predictions
from axformer_lightning.report import page
from axformer_lightning.runs.dev import dev_metrics
from tests.runs.runs import QUIET, run


@pytest.mark.slow
@QUIET
def test_a_run_ends_in_a_page_and_says_where_it_ran_and_for_how_long(tmp_path, write_glue):
    directory = tmp_path / "run"
    run(directory, "task=mrpc", f"data_dir={write_glue('mrpc')}", "retrain_epochs=1")
    text = (directory / "report.html").read_text()
    for words in ("accuracy", "Evidence", "The search", "Calibration"):
        assert words in text
    kept = json.loads((directory / "environment.json").read_text())
    assert {"finetune", "search1", "evaluate"} <= {*kept["seconds"]}
    assert all(seconds > 0 for seconds in kept["seconds"].values())
    assert kept["packages"]["torch"]
    assert f"{kept['threads']} threads" in text


@pytest.mark.slow
@QUIET
def test_what_is_reported_is_what_the_saved_model_says_in_floats(tmp_path, write_glue, monkeypatch):
    """Training in bfloat16 leaves logits in it, of which all are numbers of bfloat16."""
    monkeypatch.setattr("axformer_lightning.runs.configured.bf16_pays", lambda device, trains: True)
    run(tmp_path / "run", "task=mrpc", f"data_dir={write_glue('mrpc')}", "trainer.precision=bf16-mixed")
    for folder in ("finetuned", "model"):
        logits = torch.from_numpy(Predictions.load(tmp_path / "run" / folder).arrays["logits"])
        assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.slow
@QUIET
def test_a_page_that_cannot_be_drawn_does_not_fail_the_run(tmp_path, write_glue, monkeypatch, caplog):
    def broken(directory):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(page, "write_report", broken)
    results = run(tmp_path / "run", "task=mrpc", f"data_dir={write_glue('mrpc')}")
    assert results["search"]["candidates"] > 0
    assert json.loads((tmp_path / "run" / ".resume" / "run.json").read_text())["finished"] is True
    assert "could not be written: RuntimeError: no fonts" in caplog.text


@QUIET
def test_rows_of_dev_that_are_in_train_are_refused_where_there_are_many(tmp_path, write_glue):
    folder = write_glue("mrpc")
    (file,) = folder.rglob("dev.tsv")
    file.write_text((file.parent / "train.tsv").read_text(encoding="utf-8-sig"), encoding="utf-8")
    with pytest.raises(ValueError, match="rows that are in both"):
        run(tmp_path / "run", "task=mrpc", f"data_dir={folder}")
    assert not (tmp_path / "run" / "finetuned").exists()


def test_predictions_of_all_batches_are_kept_and_the_trainer_is_left_as_it_was(tmp_path):
    own = object()
    trainer = SimpleNamespace(callbacks=[own])

    def test(module, batches, verbose):
        for number, batch in enumerate(batches):
            outputs = {"labels": batch, "logits": torch.eye(2)[batch].bfloat16()}
            trainer.callbacks[-1].on_test_batch_end(trainer, module, outputs, batch, number)
        return [{"accuracy": 1.0}]

    trainer.test = test
    module = SimpleNamespace(task=SimpleNamespace(dev={"": "validation", "_mismatched": "other"}))
    data = SimpleNamespace(dev_dataloader=lambda suffix: [torch.tensor([0, 1]), torch.tensor([1] * (1 + len(suffix)))])
    assert dev_metrics(module, data, trainer, tmp_path) == {"accuracy": 1.0, "accuracy_mismatched": 1.0}
    assert trainer.callbacks == [own]
    assert Predictions.load(tmp_path).labels.tolist() == [0, 1, 1]
    assert len(Predictions.load(tmp_path, "_mismatched")) == 14
