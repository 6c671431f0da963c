"""Showing Hydra the launcher, which it looks for in a namespace of its own."""

import importlib
import sys
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

MODULE, NAME = "hydra_plugins.axformer_lightning_launcher", "ProcessLauncher"


def register_launcher() -> None:
    """Let Hydra know the launcher as `hydra/launcher=processes`."""
    folder = str(Path(__file__).parent / "plugins")
    if folder not in sys.path:
        sys.path.append(folder)
    Plugins.instance().register(getattr(importlib.import_module(MODULE), NAME))
    node = {"_target_": f"{MODULE}.{NAME}"}
    ConfigStore.instance().store(group="hydra/launcher", name="processes", node=node, provider="axformer")
