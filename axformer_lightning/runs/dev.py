"""The dev set of a run: its metrics, and what the model says of each sample."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from axformer_lightning.evidence import Predictions
from axformer_lightning.tasks.module import FineTuner
from axformer_lightning.tasks.task_data import TaskData


class Outputs(L.Callback):
    """Collects what `test_step` returns."""

    def __init__(self) -> None:
        self.steps: list[Mapping[str, Tensor]] = []

    @override
    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        self.steps.append({name: value.detach().cpu() for name, value in outputs.items()})

    def predictions(self) -> Predictions:
        """Return all of it, in the order of the samples."""
        together = {name: torch.cat([step[name] for step in self.steps]) for name in self.steps[0]}
        return Predictions(
            {name: (value.float() if value.is_floating_point() else value).numpy() for name, value in together.items()}
        )


def dev_metrics(module: FineTuner, data: TaskData, trainer: L.Trainer, folder: Path | None) -> dict[str, float]:
    """Return the metrics of a model as it stands on each dev set, and keep its predictions in ``folder``.

    Args:
        module: holds the model.
        data: holds the dev sets.
        trainer: runs it.
        folder: of the saved model; None keeps no predictions.

    Returns:
        Metrics by their official names.
    """
    metrics: dict[str, float] = {}
    for suffix in module.task.dev:
        outputs = Outputs()
        trainer.callbacks += [] if folder is None else [outputs]  # type: ignore[attr-defined]
        (values,) = trainer.test(module, data.dev_dataloader(suffix), verbose=False)
        metrics |= {name + suffix: value for name, value in values.items() if name != "loss"}
        if folder is not None:
            trainer.callbacks.remove(outputs)  # type: ignore[attr-defined]
            outputs.predictions().save(folder, suffix)
    return metrics
