"""Lightning checkpoints of modules that have been cut."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

import lightning as L
from torch import nn

from axformer_lightning.anatomy import find_transformer
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_

PLANS_KEY = "axformer_plans"

M = TypeVar("M", bound=L.LightningModule)


def apply_checkpoint_plans_(module: nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Cut the transformers inside ``module`` as the plans in a Lightning checkpoint say.

    For a LightningModule's `on_load_checkpoint(self, checkpoint)`, which runs before the weights are loaded; then
    plain `load_from_checkpoint` works for models that the callbacks have cut.

    Args:
        module: the LightningModule that is being loaded.
        checkpoint: what Lightning read; one without plans changes nothing.

    Raises:
        ValueError: if a plan does not fit.
    """
    plans: dict[str | None, Plan] = {}
    for state in checkpoint.get("callbacks", {}).values():
        for item in state.get(PLANS_KEY, ()) if isinstance(state, Mapping) else ():
            plans[item["model"]] = Plan.from_dict(item["plan"])
    for name, plan in plans.items():
        transformer = find_transformer(module, name)
        if getattr(transformer, "axformer_plan", None) != plan:
            apply_plan_(transformer, plan)


def load_from_checkpoint(module_class: type[M], path: str | os.PathLike[str], **kwargs: Any) -> M:
    """Load a LightningModule from a checkpoint that was saved after its transformer had been cut.

    Args:
        module_class: the user's class; it need not know of plans.
        path: the checkpoint.
        kwargs: passed to ``module_class.load_from_checkpoint``.

    Returns:
        The module, cut, with the checkpoint's weights and hard attention on.

    Raises:
        ValueError: if a plan in the checkpoint does not fit.
    """

    def on_load_checkpoint(self: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        apply_checkpoint_plans_(self, checkpoint)
        module_class.on_load_checkpoint(self, checkpoint)

    # Lightning makes the object itself, so only a class of the same name can tell it to cut in time.
    members = {"on_load_checkpoint": on_load_checkpoint, "__module__": module_class.__module__}
    reader: Any = type(module_class.__name__, (module_class,), members)
    module = reader.load_from_checkpoint(path, **kwargs)
    module.__class__ = module_class
    return module  # type: ignore[no-any-return]
