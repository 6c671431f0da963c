"""One round inside a fit: search, cut, and let everything that holds the old parameters follow."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.seed import isolate_rng
from transformers import PreTrainedModel

from axformer_lightning.anatomy import find_transformer, layers_left
from axformer_lightning.finding import SearchSettings, search_plan
from axformer_lightning.plan import Plan
from axformer_lightning.scoring import search_batches
from axformer_lightning.surgery import cut_
from axformer_lightning.training import StartingPoint, carry_over, check_all_trained

logger = logging.getLogger(__name__)


def run_round(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    transformer: PreTrainedModel,
    *,
    settings: SearchSettings,
    loader: Iterable[Any] | None,
    start: StartingPoint | None,
) -> Plan:
    """Search, cut, carry the optimizers over, and rewind where a starting point is given.

    Args:
        trainer: the trainer, in a hook of its training loop.
        pl_module: what is scored and mutated.
        transformer: the model inside it.
        settings: what is searched for and by which rule.
        loader: the search set, or None for the trainer's validation set.
        start: where to rewind to, or None to keep the weights.

    Returns:
        The plan so far.
    """
    with isolate_rng(), trainer.precision_plugin.forward_context():
        pad_token_id = getattr(transformer.config, "pad_token_id", None) or 0
        batches = search_batches(pl_module, prepared_batches(trainer, loader), pad_token_id=pad_token_id)
        plan, counts = search_plan(pl_module, transformer, batches, settings)
    edits = cut_(transformer, plan)
    for optimizer in trainer.optimizers:
        carry_over(optimizer, edits)
    check_all_trained(pl_module, trainer.optimizers, edits)
    if start is not None:
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        start.rewind_(pl_module, transformer, trainer.optimizers, schedulers)
    logger.info("AxFormer: %d of %d candidates accepted.", counts.accepted, counts.candidates)
    if trainer.logger is not None:
        values = {"axformer/candidates": counts.candidates, "axformer/accepted": counts.accepted}
        trainer.logger.log_metrics({name: float(value) for name, value in values.items()}, step=trainer.global_step)
    return plan


def starting_point(trainer: L.Trainer, pl_module: L.LightningModule, model: str | None) -> StartingPoint:
    """Save where the fit begins, beside its logs, to rewind to.

    Args:
        trainer: holds the optimizers and schedulers.
        pl_module: holds the transformer.
        model: dotted attribute path of the transformer, where there are several.
    """
    return StartingPoint.save(
        Path(trainer.log_dir or trainer.default_root_dir) / f"axformer_start_{model or 'model'}.safetensors",
        pl_module,
        layers_left(find_transformer(pl_module, model)),
        trainer.optimizers,
        [config.scheduler for config in trainer.lr_scheduler_configs],
    )


def prepared_batches(trainer: L.Trainer, loader: Iterable[Any] | None) -> Iterator[Any]:
    """Yield the search set as Lightning's own evaluation loop would hand it to the module.

    Args:
        trainer: prepares the batches.
        loader: the search set, or None for the trainer's validation set.
    """
    if loader is not None:
        for batch in loader:
            yield _prepared(trainer, batch, 0)
        return
    combined = CombinedLoader(trainer.val_dataloaders, "sequential")
    limits = trainer.num_val_batches
    for batch, batch_idx, dataloader_idx in iter(combined):
        if batch_idx < limits[dataloader_idx]:
            yield _prepared(trainer, batch, dataloader_idx)


def _prepared(trainer: L.Trainer, batch: Any, dataloader_idx: int) -> Any:
    batch = trainer.precision_plugin.convert_input(batch)
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=dataloader_idx)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=dataloader_idx)
