"""Checkpoints of another shape than the module: it is brought into theirs before Lightning loads the weights."""

from typing import Any

import lightning as L

from axformer_lightning.anatomy import find_transformer
from axformer_lightning.plan import Plan, applied_plan
from axformer_lightning.training import apply_checkpoint_plans_, averaged_modules


def watch_loading(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """Let ``pl_module``, and the averages of its weights, follow the plans of a checkpoint before they are loaded.

    Lightning loads weights before it tells callbacks of a checkpoint; only the module's own hook runs earlier.
    """
    if "on_load_checkpoint" in pl_module.__dict__:
        return
    own = pl_module.on_load_checkpoint

    def on_load_checkpoint(checkpoint: dict[str, Any]) -> None:
        for module in (pl_module, *averaged_modules(trainer)):
            apply_checkpoint_plans_(module, checkpoint)
        own(checkpoint)

    pl_module.on_load_checkpoint = on_load_checkpoint  # type: ignore[method-assign]


def unwatch_loading(pl_module: L.LightningModule) -> None:
    """Undo :func:`watch_loading`."""
    pl_module.__dict__.pop("on_load_checkpoint", None)


def plan_in(pl_module: L.LightningModule, model: str | None) -> Plan | None:
    """Return the plan that the transformer was cut by, None where there is none or the transformer is made later."""
    try:
        return applied_plan(find_transformer(pl_module, model))
    except (TypeError, ValueError):
        return None
