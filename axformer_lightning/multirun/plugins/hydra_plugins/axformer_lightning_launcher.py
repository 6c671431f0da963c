"""The launcher as Hydra knows it; what it does is in :mod:`axformer_lightning.multirun.launching`.

Hydra takes launchers from the namespace `hydra_plugins` alone, hence this folder, which `register_plugins` shows it.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from axformer_lightning.multirun.launching import launch


class ProcessLauncher(Launcher):
    """Runs every job in a fresh process, several at a time, skips what is done and resumes what was killed."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Remember what Hydra knows of the sweep."""
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs, and return what came of each."""
        return launch(self.config, self.hydra_context.config_loader, job_overrides, initial_job_idx)
