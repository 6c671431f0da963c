"""What a model is after each stage of a run, for a table with a row for each."""

import json
import logging
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.seed import isolate_rng

from axformer_lightning.anatomy import layers_left
from axformer_lightning.basics import write_atomically
from axformer_lightning.costs import count_encoder_parameters, file_bytes, sizes_of
from axformer_lightning.runs.dev import dev_metrics
from axformer_lightning.runs.stages import Run

FILE = "stages.json"
logger = logging.getLogger(__name__)


def tell(run: Run, what: str, *, tells: bool = True) -> None:
    """Take down what the model is now: metrics on the dev set, encoder parameters and bytes of its file.

    Rows are kept with what a killed run is resumed from; one that was taken down already stays as it is.

    Args:
        run: the run.
        what: name of the row, that of the stage that has ended.
        tells: whether anything is taken down.
    """
    if not tells:
        return
    rows = told(run)
    if what in (row["stage"] for row in rows):
        return
    logger.info("Report: the dev set, %s.", what)
    with isolate_rng():
        found = dev_metrics(run.module, run.data, run.make_trainer("report", 0), None)
        size = file_bytes(sizes_of(run.model), layers_left(run.model))
    row = {"stage": what, "metrics": found, "encoder_parameters": count_encoder_parameters(run.model)}
    write_atomically(_file(run), json.dumps([*rows, {**row, "size_bytes": size}]))


def told(run: Run) -> list[dict[str, Any]]:
    """Return the rows so far."""
    if not _file(run).is_file():
        return []
    rows: list[dict[str, Any]] = json.loads(_file(run).read_text(encoding="utf-8"))
    return rows


def _file(run: Run) -> Path:
    return run.progress.folder / FILE
