"""One round inside a fit: search, cut, and let everything that holds the old parameters follow."""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import anatomy_of, find_transformer, layers_left
from axformer_lightning.basics import eval_mode
from axformer_lightning.budgets import Budget
from axformer_lightning.callbacks.asking import asked
from axformer_lightning.callbacks.fit import Fit, search_journal
from axformer_lightning.callbacks.sharing import logger, ranks_of, read_alike, undivided, undrawn
from axformer_lightning.callbacks.speaking import numbers_of, search_progress, speak
from axformer_lightning.costs import count_parameters
from axformer_lightning.plan import Plan, plan_of
from axformer_lightning.replay import Ranks
from axformer_lightning.rounds import search_and_cut_, shrink_to_
from axformer_lightning.scoring import BATCH_TOKENS, search_batches, with_own_labels
from axformer_lightning.search import SearchSettings, count_wholes
from axformer_lightning.surgery import cut_
from axformer_lightning.training import (
    averaged_modules,
    carry_over,
    check_all_trained,
    check_references,
    contents_of,
    copy_parameters_,
    forget_removed,
    held_by,
    original_of,
    restart_averages,
    rewrap,
    tell_of_cut,
)


def run_round(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    transformer: PreTrainedModel,
    *,
    settings: SearchSettings | Budget,
    loader: Iterable[Any] | None,
    fit: Fit,
) -> Plan:
    """Search or go down to a budget, cut, carry the optimizers over, and rewind where a starting point is given.

    Args:
        trainer: the trainer, in a hook of its training loop.
        pl_module: what is scored and mutated.
        transformer: the model inside it.
        settings: what is searched for and by which rule, or the budget.
        loader: the search set, or None for the trainer's validation set.
        fit: where to rewind to, if anywhere; copies of the transformer that have changed since are averages.

    Returns:
        The plan so far.

    Raises:
        ValueError: if something would not follow the cut; nothing is changed then.
    """
    paths = {part: path for path, part in pl_module.named_modules()}
    name = paths[transformer]
    averages: list[tuple[nn.Module, PreTrainedModel, nn.Module, str]] = [
        (module, find_transformer(module, name), transformer, "") for module in averaged_modules(trainer)
    ]
    for copy, contents in fit.copies.items():
        if contents_of(copy) != contents and (original := original_of(copy, transformer)) is not None:
            averages.append((copy, copy, original, paths[original]))
    check_references(trainer, pl_module, transformer, copies=False)
    held, before, size = held_by(trainer.optimizers), layers_left(transformer), count_parameters(transformer)
    with isolate_rng(), asked(trainer), trainer.precision_plugin.forward_context():
        ranks = ranks_of(trainer)
        tokens = BATCH_TOKENS if isinstance(settings, Budget) else settings.batch_tokens
        batches = list(prepared_batches(trainer, loader))
        if isinstance(settings, Budget) and not settings.has_floor:
            batches = with_own_labels(pl_module, transformer, batches)
        batches = _share(batches, pl_module, transformer, ranks, tokens)
        if isinstance(settings, Budget):
            cut = shrink_to_(pl_module, transformer, batches, settings, ranks=ranks)
        else:
            journal = search_journal(trainer, name, fit.journals)
            with search_progress(trainer, count_wholes(anatomy_of(transformer), before, settings)) as on_trial:
                cut = search_and_cut_(
                    pl_module, transformer, batches, settings, ranks=ranks, journal=journal, on_trial=on_trial
                )
    for optimizer in trainer.optimizers:
        carry_over(optimizer, cut.edits)
    check_all_trained(pl_module, trainer.optimizers, cut.edits, held)
    forget_removed(trainer, pl_module)
    for _, average, original, _ in averages:
        edits = cut_(average, cut.plan)
        within = "" if original is transformer else f"{transformer.base_model_prefix}."
        copy_parameters_(average, original, {path.removeprefix(within) for path in cut.repaired})
        for optimizer in trainer.optimizers:
            carry_over(optimizer, edits)  # it may hold them, frozen
    tell_of_cut(trainer, pl_module, name and f"{name}.", cut.edits)
    plan = cut.plan
    if fit.start is not None:
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        copies, inside = [average for _, average, _, _ in averages], {*pl_module.modules()}
        fit.start.rewind_(pl_module, transformer, trainer.optimizers, schedulers, copies)
        for module, average, _, path in averages:
            if average not in inside:
                fit.start.rewind_weights_(module, average, path)
        restart_averages(trainer)
        if plan.repaired:
            logger.info(
                "AxFormer: the weights are those at the start of fit; repairs went with the others, the cut stays."
            )
        plan = plan_of(transformer)
    rewrap(trainer)
    if isinstance(settings, Budget):
        after = count_parameters(transformer)
        logger.info("AxFormer: %d parameters become %d (%+.1f%%).", size, after, 100 * (after / size - 1))
        return plan
    speak(trainer, plan, numbers_of(plan, cut.counts, before, (size, count_parameters(transformer))))
    return plan


def prepared_batches(trainer: L.Trainer, loader: Iterable[Any] | None) -> Iterator[Any]:
    """Yield the search set as Lightning's own evaluation loop would hand it to the module of a single process.

    For the stage of a validation call it within :func:`~axformer_lightning.callbacks.asking.asked`.

    Args:
        trainer: prepares the batches.
        loader: the search set, or None for the trainer's validation set.
    """
    if loader is not None and not hasattr(loader, "flattened"):
        with undivided([loader]), undrawn([loader]):
            for batch in loader:
                yield _prepared(trainer, batch, 0)
        return
    if loader is None and trainer.val_dataloaders is None:  # no sanity check, and no validation in the first epoch
        trainer.fit_loop.epoch_loop.val_loop.setup_data()
    own: Any = trainer.fit_loop.epoch_loop.val_loop._combined_loader if loader is None else loader
    combined = CombinedLoader(own.iterables, own._mode)
    with undivided(combined.flattened) as was_divided, undrawn(combined.flattened):
        if loader is None:
            combined.limits = [
                limit * trainer.world_size if divided else limit
                for limit, divided in zip(trainer.num_val_batches, was_divided, strict=True)
            ]
        for batch, dataloader_idx in _read(combined):
            yield _prepared(trainer, batch, dataloader_idx)


def _read(combined: CombinedLoader) -> Iterator[tuple[Any, int]]:
    """Yield batches and the numbers of their loaders, and read no further than the limits."""
    length = sized_len(iter(combined))
    for _ in count() if length is None else range(length):
        try:
            batch, _, dataloader_idx = next(combined)
        except StopIteration:
            return
        yield batch, dataloader_idx


def _share(
    batches: list[Any], pl_module: L.LightningModule, transformer: PreTrainedModel, ranks: Ranks, batch_tokens: int
) -> list[Any]:
    """Return what this process scores of the search set that it has read."""
    is_common = read_alike(batches, ranks)
    if not batches and not is_common:
        return []
    arranged = search_batches(pl_module, batches, batch_tokens, transformer.config)
    return arranged[ranks.rank :: ranks.size] if is_common else arranged


def _prepared(trainer: L.Trainer, batch: Any, dataloader_idx: int) -> Any:
    with eval_mode(trainer.lightning_module), torch.no_grad():  # as a hook may augment what it trains on
        batch = trainer.precision_plugin.convert_input(batch)
        batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=dataloader_idx)
        return trainer.strategy.batch_to_device(batch, dataloader_idx=dataloader_idx)
