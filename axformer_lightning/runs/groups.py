"""Config groups whose settings are the arguments of callbacks: they live in the signatures and nowhere else."""

import inspect
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from omegaconf import DictConfig

from axformer_lightning.budgets import TARGETS
from axformer_lightning.callbacks import (
    AccuracyDrivenPruningCallback,
    DistillationCallback,
    HardAttentionCallback,
    Int8Callback,
    SearchCallback,
    ShrinkCallback,
)
from axformer_lightning.runs.configured import options_of
from axformer_lightning.tasks import TASKS

DEFAULT_TARGET = {"encoder_size_ratio": 2.0}

# In a run of stages the search follows fine-tuning on the run's own search set, so these say nothing there.
ELSEWHERE = {"self", "metric", "first_epoch", "every_n_epochs", "search_dataloader", "model"}
WITH_PRUNING = {"rounds", "retrain"}  # set in the group `pruning` for both
GROUPS = (
    ("pruning", "signature", AccuracyDrivenPruningCallback, ELSEWHERE),
    ("pruning", "shrink_signature", ShrinkCallback, ELSEWHERE),
    ("distillation", "signature", DistillationCallback, ELSEWHERE | {"teacher"}),
    ("int8", "signature", Int8Callback, ELSEWHERE | WITH_PRUNING),
    ("hard_attention", "signature", HardAttentionCallback, ELSEWHERE | WITH_PRUNING),
)


def arguments(callback: type, left_out: set[str]) -> dict[str, Any]:
    """Return a callback's arguments and their defaults."""
    parameters = inspect.signature(callback.__init__).parameters  # type: ignore[misc]
    return {name: parameter.default for name, parameter in parameters.items() if name not in left_out}


def store_groups() -> None:
    """Let Hydra know the groups."""
    for group, name, callback, left_out in GROUPS:
        ConfigStore.instance().store(group=group, name=name, node=arguments(callback, left_out))


def callbacks_of(cfg: DictConfig) -> list[SearchCallback]:
    """Return the callbacks that a configuration asks for; all go by the same metric."""
    metric = TASKS[cfg.task.name].metric(cfg.task.headline)
    found = []
    for group in (cfg.hard_attention, cfg.pruning, cfg.int8):
        if group:
            options = options_of(group, "ratios")
            if "ratios" in group and all(options[name] is None for name in TARGETS):
                options |= DEFAULT_TARGET
            found.append(instantiate(options, _partial_=True)(metric=metric))  # not copied: all go by the same
    return found
