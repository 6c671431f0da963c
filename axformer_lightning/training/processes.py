"""Lightning's wrappers and copies of a module, in and between processes, which have to follow a cut."""

from typing import Any, TypeVar

import lightning as L
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from axformer_lightning.training.checkpoints import apply_checkpoint_plans_

M = TypeVar("M", bound=nn.Module)
FOLLOWS = "axformer_follows_workers"


def rewrap(trainer: L.Trainer) -> None:
    """Rebuild the `DistributedDataParallel` wrapper after a cut, with the user's settings; all ranks have to call it.

    The old one reduces the gradients of removed parameters. The new one begins by sending the weights of rank 0 to all.
    """
    strategy: Any = trainer.strategy
    if isinstance(strategy.model, DistributedDataParallel):
        strategy.model = strategy.lightning_module  # as it was before Lightning wrapped it
        strategy.configure_ddp()
        strategy._pl_static_graph_delay_done = False  # the first step of a static graph, again


def follow_workers_(module: M) -> M:
    """Make ``module`` follow a cut that happens in processes that `fit` spawns or forks.

    With `Trainer(strategy="ddp_spawn")`, `"ddp_fork"` and `"ddp_notebook"` the callbacks cut a copy of the module in
    another process. Lightning then loads its weights into the module of the main process, where no callback runs.

    Args:
        module: the LightningModule that will be passed to `fit`.

    Example:
        >>> follow_workers_(nn.Linear(2, 2))
        Linear(in_features=2, out_features=2, bias=True)
    """
    module.register_load_state_dict_pre_hook(_cut_as_reported)  # type: ignore[no-untyped-call]
    setattr(module, FOLLOWS, True)
    return module


def follows_workers(module: nn.Module) -> bool:
    """Tell whether :func:`follow_workers_` was called on ``module`` in the main process."""
    return getattr(module, FOLLOWS, False)


def fits_in_workers(trainer: L.Trainer) -> bool:
    """Tell whether `fit` trains a copy of the module, in processes that it spawns or forks."""
    # By name, as `pytorch_lightning` has a class of its own.
    return "_MultiProcessingLauncher" in {parent.__name__ for parent in type(trainer.strategy.launcher).__mro__}


def _cut_as_reported(module: nn.Module, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    apply_checkpoint_plans_(module, {"state_dict": own})
