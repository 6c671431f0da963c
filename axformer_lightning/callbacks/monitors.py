"""What watches a metric, `EarlyStopping`, `ModelCheckpoint` and plateau schedulers: after a cut it starts anew.

A metric of the dense model says nothing of the cut one. Until the next validation a `ModelCheckpoint` with a monitor
writes nothing, as it would pair cut weights with the dense model's metric. Then all start to compare anew: the dense
model's best is no bar that retraining has to jump in its first epoch, and "best" is a model of the new shape. The file
of the dense model's best stays on disk. Callbacks are known by the names of their classes, so those of
`pytorch_lightning` count as well. Watchers of a user's own start anew in their `axformer_cut`.
"""

import math
from collections.abc import Iterator
from typing import Any

import lightning as L
from torch.optim.lr_scheduler import ReduceLROnPlateau

HELD = "_save_monitor_checkpoint"  # through which every file of a monitored ModelCheckpoint goes


def hold_monitors(trainer: L.Trainer) -> None:
    """Keep monitored checkpoints from being written until :func:`restart_monitors`."""
    for callback in _of_class(trainer, "ModelCheckpoint"):
        if callback.monitor is not None:
            setattr(callback, HELD, lambda *_: None)


def release_monitors(trainer: L.Trainer) -> None:
    """Let monitored checkpoints be written again."""
    for callback in _of_class(trainer, "ModelCheckpoint"):
        callback.__dict__.pop(HELD, None)


def restart_monitors(trainer: L.Trainer) -> None:
    """Let monitored checkpoints be written again, and whatever watches a metric compare anew."""
    release_monitors(trainer)
    for callback in _of_class(trainer, "ModelCheckpoint"):
        if callback.monitor is not None:
            callback.best_k_models = {}
            callback.best_model_path = callback.kth_best_model_path = ""
            callback.best_model_score = callback.current_score = None
    for callback in _of_class(trainer, "EarlyStopping"):
        callback.best_score = callback.best_score.new_tensor(math.inf if callback.mode == "min" else -math.inf)
        callback.wait_count = 0
    for scheduler in schedulers_of(trainer):
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler._reset()


def schedulers_of(trainer: L.Trainer) -> Iterator[Any]:
    """Yield all schedulers of ``trainer``, and those that a sequence of them is made of."""
    schedulers: list[Any] = [config.scheduler for config in trainer.lr_scheduler_configs]
    while schedulers:
        scheduler = schedulers.pop()
        schedulers += getattr(scheduler, "_schedulers", [])
        yield scheduler


def _of_class(trainer: L.Trainer, name: str) -> Iterator[Any]:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if any(cls.__name__ == name for cls in type(callback).__mro__):
            yield callback
