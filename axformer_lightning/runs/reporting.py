"""The end of a run: what the dense and the final model are worth and cost, and the files that say so."""

import logging
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from datasets import Dataset

from axformer_lightning.artifacts import load_pretrained, save_pretrained
from axformer_lightning.artifacts.files import PLAN_FILE
from axformer_lightning.basics import write_json
from axformer_lightning.costs import count_encoder_parameters, count_parameters, latencies_ms, macs_per_sample
from axformer_lightning.plan import plan_of
from axformer_lightning.report import draw_plan
from axformer_lightning.runs.dev import dev_metrics
from axformer_lightning.runs.environment import keep_environment
from axformer_lightning.runs.resume import RESULTS
from axformer_lightning.runs.retraining import search_metrics
from axformer_lightning.runs.shrinking import DAMAGE, PARETO
from axformer_lightning.runs.stages import Run
from axformer_lightning.tasks.data import TextData
from axformer_lightning.tasks.predictions import write_predictions

REPORT_LENGTH = 128
DENSE, MODEL = "finetuned", "model"  # directories of the two models of every run
logger = logging.getLogger(__name__)


def save_model(run: Run) -> None:
    """Write the model as it stands: `model/`, `plan.json` and `plan.png`."""
    save_pretrained(run.model, run.directory / "model", tokenizer=run.tokenizer)
    plan = plan_of(run.model)
    plan.save(run.directory / "plan.json")
    draw_plan(plan, run.directory / "plan.png", title=f"What is left of {run.model.config.model_type}")


def evaluate(run: Run, trainer: L.Trainer, test: Mapping[str, Dataset]) -> dict[str, float]:
    """Return the metrics of the model as it stands on the dev set, and write its predictions for each test set."""

    def stage() -> dict[str, float]:
        logger.info("Report: the dev set, sizes and latencies of the dense and the cut model.")
        metrics = dev_metrics(run.module, run.data, trainer, run.directory / "model")
        predict_test(run, trainer, test)
        return metrics

    return run.progress.once("evaluate", run.module, stage)


def judged(run: Run) -> dict[str, float] | None:
    """Return loss and metrics of the final model on the search set; None if it was trained on that."""
    if run.data.train_on_all:
        return None
    judge = run.make_trainer("search", 0)
    found: dict[str, float] = run.progress.once(
        "judge", run.module, lambda: search_metrics(run.module, run.data, judge)
    )
    return found


def predict_test(run: Run, trainer: L.Trainer, test: Mapping[str, Dataset]) -> None:
    """Write the predictions of the model as it stands for each test set, in the GLUE server's layout.

    Those of a former run go. A model that has diverged predicts nothing: that is said, and what else is known of the
    run is reported as usual.
    """
    folder = run.directory / "predictions"
    for stem in run.module.task.test:
        (folder / f"{stem}.tsv").unlink(missing_ok=True)
    for stem, rows in test.items():
        assert isinstance(run.data, TextData)  # no other task has a test set
        batches: Any = trainer.predict(run.module, run.data.rows_dataloader(rows))
        predictions = [value for batch in batches for value in batch.tolist()]
        path = folder / f"{stem}.tsv"
        try:
            write_predictions(path, run.module.task, predictions)
        except ValueError as error:
            logger.warning("%r is not written. %s", path.name, error)


def costs(run: Run, max_length: int, others: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Return what the models of a run, all of them loaded from disk, cost on this device, timed in turns.

    Args:
        run: the run, which has saved its models.
        max_length: tokens of its longest sample.
        others: directories of models besides the dense one and the last.

    Returns:
        By directory: parameters, bytes of the file, multiply-adds of a sample, and milliseconds by batch size.
    """
    length = min(REPORT_LENGTH, max_length)
    device: Any = run.make_trainer("report", 0).strategy.root_device
    models = {
        folder: load_pretrained(run.directory / folder, dtype="float32").to(device)
        for folder in (DENSE, *others, MODEL)
    }
    times = latencies_ms(models, length=length)
    return {
        folder: {
            "parameters": count_parameters(model),
            "encoder_parameters": count_encoder_parameters(model),
            "size_bytes": (run.directory / folder / "model.safetensors").stat().st_size,
            "macs_per_sample": macs_per_sample(model, length),
            "latency_ms": times[folder],
        }
        for folder, model in models.items()
    }


def save_results(run: Run, results: dict[str, Any], made: Collection[str] = ()) -> None:
    """Write `environment.json`, and then `results.json`; what a former run had in its place goes.

    Args:
        run: the run, which has saved its models.
        results: plain values; numbers that are not finite become null.
        made: directories of the models that `pareto.json` tells of, none where it has not been written.
    """
    keep_environment(run.directory, run.progress.seconds)
    _remove_former(run.directory, made)
    write_json(run.directory / RESULTS, results)


def _remove_former(directory: Path, made: Collection[str]) -> None:
    """Remove models of ratios that this run has not made, and without any, what is told of ratios: pages read both.

    A model that the user keeps beside them by another name stays.
    """
    for folder in directory.glob(f"{MODEL}-*/"):
        is_of_ratio = re.fullmatch(rf"{MODEL}-[0-9.e+]+x", folder.name)  # as `shrink_to_budget` names them
        if is_of_ratio and folder.name not in made and (folder / PLAN_FILE).is_file():
            shutil.rmtree(folder)
    for name in () if made else (PARETO, "pareto.png", DAMAGE):
        (directory / name).unlink(missing_ok=True)
