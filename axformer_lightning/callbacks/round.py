"""One round inside a fit: search, cut, and let everything that holds the old parameters follow."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import lightning as L
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from transformers import PreTrainedModel

from axformer_lightning.finding import SearchSettings, search_plan
from axformer_lightning.plan import Plan
from axformer_lightning.scoring import batches_by_length
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
        batches = list(_search_batches(trainer, pl_module, loader))
        if batches and not hasattr(pl_module, "axformer_step") and all(map(_is_plain, batches)):
            largest = max(len(batch["input_ids"]) for batch in batches)
            batches = list(batches_by_length(batches, largest, transformer.config.pad_token_id or 0))
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


def _search_batches(trainer: L.Trainer, pl_module: L.LightningModule, loader: Iterable[Any] | None) -> Iterator[Any]:
    """Yield the search set as Lightning's own evaluation loop would hand it to the module."""
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
    return trainer.strategy.batch_to_device(batch, dataloader_idx=dataloader_idx)


def _is_plain(batch: Any) -> bool:
    """Tell whether a batch is a dict of tensors with a row per sample, as transformers' tokenizers make it."""
    return (
        isinstance(batch, Mapping)
        and "input_ids" in batch
        and all(isinstance(value, Tensor) and value.dim() > 0 for value in batch.values())
        and len({len(value) for value in batch.values()}) == 1
    )
