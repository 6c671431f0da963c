"""Stopping a run before its first retraining, for a sweep that asks whether the rest is worth it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from axformer_lightning.artifacts import load_pretrained
from axformer_lightning.basics import write_json
from axformer_lightning.costs import count_encoder_parameters, latencies_ms
from axformer_lightning.runs.retraining import search_metrics
from axformer_lightning.runs.stages import Run
from axformer_lightning.runs.state import HALTED, Halted, read_state

HALT = "halted.json"


def halting(run: Run, on_stage: Callable[[str], None], *, length: int | None = None) -> Callable[[str], None]:
    """Return what tells of a new stage, and stops the run before the first one that retrains.

    What the cut model is then is left in `halted.json`, with the metrics of the search set, as the dev set may choose
    nothing. With `resume=true` the run goes on from there, with the results of one that never stopped.

    Args:
        run: the run.
        on_stage: is told of each stage.
        length: tokens of a sample whose latency is measured; None measures none.

    Raises:
        Halted: from what is returned, once ``halted.json`` is written.
    """

    def tell(stage: str) -> None:
        on_stage(stage)
        if stage.removeprefix("int8_").startswith("retrain"):
            write_json(run.directory / HALT, _standing(run, length))
            raise Halted("Stopped before retraining; resume=true goes on.")

    return tell


def read_halted(directory: Path) -> dict[str, Any] | None:
    """Return how a run stood when it stopped, laid out as results.json; None of one that has not, or went on."""
    state = read_state(directory)
    if state is None or state.state != HALTED:
        return None
    found: dict[str, Any] = json.loads((directory / HALT).read_text(encoding="utf-8"))
    return found


def _standing(run: Run, length: int | None) -> dict[str, Any]:
    metrics = search_metrics(run.module, run.data, run.make_trainer("search", 0))
    dense = load_pretrained(run.directory / "finetuned", dtype="float32")
    now: dict[str, Any] = {"metrics": metrics, "encoder_parameters": count_encoder_parameters(run.model)}
    if length is not None:
        device: Any = run.make_trainer("report", 0).strategy.root_device
        model = copy.deepcopy(run.model).float().to(device)  # as results.json times it, whatever it trains in
        now |= {"latency_ms": latencies_ms({"now": model}, length=length)["now"]}
    return {"baseline": {"encoder_parameters": count_encoder_parameters(dense)}, "axformer": now}
