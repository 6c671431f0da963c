"""Hydra finds launchers in this namespace only; what it does is in `axformer_lightning.multirun`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig


@dataclass
class ProcessLauncherConf:
    """Every job in a fresh process of its own."""

    _target_: str = "hydra_plugins.axformer_lightning_launcher.ProcessLauncher"


class ProcessLauncher(Launcher):
    """Runs every job in a fresh process, several at a time, skips what is done and resumes what was killed."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Remember what Hydra knows of the sweep."""
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs, and return what came of each."""
        from axformer_lightning.multirun import launch  # imported late: every Hydra app on the machine reads this file

        return launch(self.config, self.hydra_context.config_loader, job_overrides, initial_job_idx)


ConfigStore.instance().store(group="hydra/launcher", name="processes", node=ProcessLauncherConf, provider="axformer")
