"""What surrounds a module that is scored in a fit: a validation, of which no trace stays in what the trainer holds."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.loggers.logger import DummyLogger

from axformer_lightning.callbacks.monitors import schedulers_of


@contextmanager
def asked(trainer: L.Trainer) -> Iterator[None]:
    """Let hooks and steps of the module find what they find in a validation; afterwards ``trainer`` is as it was.

    So what they do only in training, as augmenting `if self.trainer.training`, is not done. What they hand straight to
    a logger is dropped, and schedulers and learning rates that a step moves by hand are brought back.

    Args:
        trainer: in a fit; its optimizers may be made yet or not.
    """
    stage, loggers = trainer.state.stage, trainer.loggers
    groups: list[dict[str, Any]] = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    held = groups + [vars(scheduler) for scheduler in schedulers_of(trainer)]
    before = [{name: value for name, value in one.items() if name != "params"} for one in held]
    trainer.validating = True
    trainer.loggers = [DummyLogger() for _ in loggers]
    try:
        with warnings.catch_warnings():
            # A trial leaves the optimizer's step out, after which a step moves its scheduler.
            warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler\.step\(\)`")
            yield
    finally:
        trainer.state.stage, trainer.loggers = stage, loggers
        for one, kept in zip(held, before, strict=True):
            one.update(kept)
