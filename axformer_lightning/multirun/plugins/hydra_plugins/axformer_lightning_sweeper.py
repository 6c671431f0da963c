"""The sweeper as Hydra knows it; what it does is in :mod:`axformer_lightning.multirun.sweeper`."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf


class StudySweeper(Sweeper):
    """Lets optuna propose the settings of jobs, by what came of those before; a killed sweep goes on."""

    def __init__(self, **options: Any) -> None:
        self.options = OmegaConf.create(options)

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Remember what Hydra knows of the sweep."""
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.given = config, hydra_context.config_loader, launcher

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep."""
        try:
            from axformer_lightning.multirun.sweeper import sweep_by_study
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"Expected optuna to be installed, got: {error}. Run pip install 'axformer-lightning[optuna]'."
            ) from error
        sweep_by_study(*self.given, arguments, self.options)
