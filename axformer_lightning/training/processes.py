"""Lightning's wrappers and copies of a module, in and between processes, which have to follow a cut."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from axformer_lightning.plan import Plan
from axformer_lightning.training.checkpoints import PLANS_KEY, apply_checkpoint_plans_

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


def tell_main_process(trainer: L.Trainer, module: nn.Module, model: str | None, plan: Plan | None) -> None:
    """Add the plan of a copy that was trained in a process of its own to the state that Lightning collects.

    Args:
        trainer: of that process, when it has finished.
        module: the copy.
        model: dotted attribute path of the transformer, if there are several.
        plan: the plan that the transformer was cut by.
    """
    if not fits_in_workers(trainer) or not follows_workers(module):
        return
    text = json.dumps({"model": model, "plan": None if plan is None else plan.to_dict()})
    report = torch.tensor(list(text.encode()), dtype=torch.uint8)

    def tell(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Mapping[str, Any]) -> None:
        state[f"{prefix}{PLANS_KEY}.{model}"] = report

    module.register_state_dict_post_hook(tell)


def _cut_as_reported(module: nn.Module, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    reports = [state.pop(name) for name in list(state) if name.startswith(f"{prefix}{PLANS_KEY}.")]
    if reports:
        plans = [json.loads(bytes(text.tolist())) for text in reports]
        apply_checkpoint_plans_(module, {"callbacks": {"": {PLANS_KEY: plans}}})
