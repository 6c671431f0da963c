"""Showing Hydra the launcher and the sweeper, which it looks for in a namespace of its own."""

import importlib
import sys
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

OPTUNA: dict[str, Any] = {
    "_recursive_": False,  # the sampler is made for each trial
    "n_trials": 20,  # those of earlier commands among them
    "n_jobs": None,  # of a batch; as many as run at a time
    "prune": 0.5,  # share of earlier trials that dominate one whose retraining is not worth it; null retrains all
    "prune_after": 5,  # trials
    "sampler": {"_target_": "optuna.samplers.TPESampler", "seed": 0},
    "storage": None,  # study.db in the sweep's directory
    "params": None,  # settings to search over, beside those of the command line
}
PLUGINS: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
    ("launcher", "processes", "axformer_lightning_launcher", "ProcessLauncher", {}),
    ("sweeper", "optuna", "axformer_lightning_sweeper", "StudySweeper", OPTUNA),
)


def register_plugins() -> None:
    """Let Hydra know `hydra/launcher=processes` and `hydra/sweeper=optuna`."""
    folder = str(Path(__file__).parent / "plugins")
    if folder not in sys.path:
        sys.path.append(folder)
    for group, name, file, kind, options in PLUGINS:
        module = f"hydra_plugins.{file}"
        Plugins.instance().register(getattr(importlib.import_module(module), kind))
        node = {"_target_": f"{module}.{kind}", **options}
        ConfigStore.instance().store(group=f"hydra/{group}", name=name, node=node, provider="axformer")
