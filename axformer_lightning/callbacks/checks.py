"""What is refused before anything trains: modules that hold no model to cut, and those that cannot be scored."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import lightning as L
from lightning.pytorch.utilities.seed import isolate_rng
from torchmetrics import Metric
from transformers import PreTrainedModel

from axformer_lightning.anatomy import anatomy_of, find_transformer
from axformer_lightning.basics import find_adapter
from axformer_lightning.budgets import Budget, targets_of
from axformer_lightning.budgets.budget import TIMES
from axformer_lightning.budgets.targets import check_can_measure
from axformer_lightning.callbacks.asking import asked
from axformer_lightning.callbacks.round import prepared_batches
from axformer_lightning.callbacks.sharing import ranks_of
from axformer_lightning.scoring import (
    ADVICE,
    INTO_BATCHES,
    check_agreement,
    check_metric,
    step_of,
    to_device,
    with_own_labels,
)
from axformer_lightning.search import SearchSettings
from axformer_lightning.search.phases import space_of
from axformer_lightning.surgery import check_can_cut, check_unshared
from axformer_lightning.training import cannot_write, fits_in_workers, follows_workers

OWN_PARAMETERS = {"DeepSpeedStrategy", "SingleDeviceXLAStrategy", "XLAStrategy"}


def check_trainer(trainer: L.Trainer, name: str, num_rounds: int, num_epochs: int) -> None:
    """Refuse a trainer in which the rounds cannot run.

    Args:
        trainer: what is asked to fit.
        name: of the callback.
        num_rounds: rounds that are left.
        num_epochs: epochs that they need.

    Raises:
        ValueError: if the strategy or another callback cannot follow a cut, there is no validation, or there are too
            few epochs.
    """
    check_strategy(trainer)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if any(parent.__name__ == "ModelPruning" for parent in type(callback).__mro__):
            raise ValueError(
                f"Expected weights as plain parameters, got {type(callback).__name__} beside {name}, which puts masks"
                " and other parameters in their place. Leave it out, or use it in a fit of its own before this one."
            )
    if not trainer.enable_validation:
        raise ValueError(
            f"Expected a validation loop for {name} to act in, got none. Define `validation_step`"
            " and a validation dataloader, and leave `limit_val_batches` above 0."
        )
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs < num_epochs:
        raise ValueError(
            f"Expected at least {num_epochs} epochs for {num_rounds} round{'s'[: num_rounds > 1]} of {name}, got"
            f" `max_epochs={trainer.max_epochs}`. Raise it, or lower `first_epoch`, `rounds` or `every_n_epochs`."
        )


def check_strategy(trainer: L.Trainer) -> None:
    """Refuse a trainer whose strategy keeps parameters in a form of its own, or whose module would not get the cut.

    Raises:
        ValueError: naming the strategy to use instead.
    """
    strategy: Any = trainer.strategy
    families = {parent.__name__ for parent in type(strategy).__mro__}  # by name, as `pytorch_lightning` has its own
    if not families & {"SingleDeviceStrategy", "DDPStrategy"} or families & OWN_PARAMETERS:
        raise ValueError(
            f"Expected one device or the strategy 'ddp', got {type(strategy).__name__}, which keeps the parameters in a"
            ' form that a cut cannot follow. Use `Trainer(strategy="ddp")` or `Trainer(devices=1)`.'
        )
    if fits_in_workers(trainer) and not follows_workers(trainer.lightning_module):
        raise ValueError(
            "Expected processes that run the whole script, got a strategy that spawns or forks them: the module of the"
            ' main process would stay uncut. Use `Trainer(strategy="ddp")`; in a notebook call'
            " `axformer_lightning.follow_workers_(module)` before `fit`."
        )


def check_can_write(trainer: L.Trainer) -> None:
    """Refuse a directory into which the weights that retraining rewinds to cannot be written.

    Raises:
        OSError: naming the directory.
    """
    directory = Path(trainer.log_dir or trainer.default_root_dir)
    if trainer.is_global_zero:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=directory).close()
        except OSError as error:
            raise cannot_write(directory, error) from error


def _metric_of(step: SearchSettings | Budget) -> Metric | None:
    if isinstance(step, SearchSettings):
        return step.rule.metric
    return step.options.get("metric") if step.has_floor else None


def check_module(pl_module: L.LightningModule, model: str | None, steps: Sequence[SearchSettings | Budget]) -> None:
    """Refuse a module whose transformer cannot be cut, or that says nothing of how it is scored.

    Args:
        pl_module: holds the transformer.
        model: dotted attribute path of the transformer, where there are several.
        steps: what a round will do, one step after another.

    Raises:
        ValueError: if there is no transformer, several and no name, one of an unknown family, or one with adapters; or
            a budget is out of reach.
        TypeError: if the module has neither a forward nor an `axformer_step`.
    """
    transformer = find_transformer(pl_module, model)
    if (name := find_adapter(transformer)) is not None:
        raise ValueError(
            f"Expected a model without adapters, got {type(transformer.get_submodule(name)).__name__} at {name!r}."
            " Merge them: `model = model.merge_and_unload()`, and then `model.requires_grad_(True)`, as PEFT has frozen"
            " what retraining has to train."
        )
    anatomy = anatomy_of(transformer)
    check_unshared(pl_module, transformer)
    for step in steps:
        if isinstance(step, Budget):
            check_can_cut(transformer, None, prunes=True)
            check_reachable(transformer, step)
        else:
            space_of(anatomy, step)
            prunes, rounds = step.pruning is not None, step.int8 is not None
            check_can_cut(transformer, step.hard_attention, prunes=prunes, rounds=rounds)
    step_of(pl_module)


def check_reachable(transformer: PreTrainedModel, budget: Budget) -> None:
    """Refuse a budget with targets that are out of reach, but for times that nobody has measured yet.

    Rounds before it only raise the share of what stays, so what is out of reach now will be so then.

    Raises:
        ValueError: if a target cannot be reached, the latency table is of another model, or times would have to be
            measured of a model that is cut already.
        FileNotFoundError: if there is no such table.
    """
    check_can_measure(transformer, budget)
    unknown = TIMES if budget.settings["latency_table"] is None else ()
    if budget.asked.keys() - {*unknown}:
        options: Any = {name: value for name, value in budget.options.items() if name not in unknown}
        with isolate_rng():
            targets_of(transformer, replace(budget, options=options))


def has_setup_of_its_own(pl_module: L.LightningModule) -> bool:
    """Tell whether hooks of the module, which run after the callbacks' `setup`, may make parts of it."""
    # By name, as the module may be one of `pytorch_lightning`, whose classes are others.
    hooks = {type(pl_module).setup.__qualname__, type(pl_module).configure_model.__qualname__}
    return hooks != {"DataHooks.setup", "ModelHooks.configure_model"}


def check_scores(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    transformer: PreTrainedModel,
    loader: Iterable[Any] | None,
    steps: Sequence[SearchSettings | Budget],
) -> None:
    """Score the first batches of the search set, so that what cannot be scored is refused before training.

    Module and random state are unchanged afterwards.

    Args:
        trainer: prepares the batch.
        pl_module: what is scored.
        transformer: the model inside it.
        loader: the search set, or None for the trainer's validation set.
        steps: what a round will do, by whose metrics it decides beside the loss.

    Raises:
        ValueError: if the search set is empty, a batch and the module do not go together, or what would be scored is
            not what the module learns.
        TypeError: if the module puts out nothing that can be scored.
    """
    batches, problem_type = prepared_batches(trainer, loader), getattr(transformer.config, "problem_type", None)
    if all(isinstance(step, Budget) and not step.has_floor for step in steps):
        answered = (one for batch in batches for one in with_own_labels(pl_module, transformer, [batch]))
        batches = (to_device(batch, transformer.device) for batch in answered)
    try:
        with isolate_rng(), asked(trainer), trainer.precision_plugin.forward_context():
            found = check_agreement(pl_module, batches, problem_type)
    except Exception as error:
        what = "AxFormer scored the first batches of its search set, before any training."
        is_advised = any(advice in str(error) for advice in (ADVICE, INTO_BATCHES))
        error.add_note(what if is_advised else f"{what} {ADVICE}")
        raise
    for step in steps:
        check_metric(_metric_of(step), found, pl_module.device)
    if all(empty for (empty,) in ranks_of(trainer).gather([not found])):
        raise ValueError("Expected a search set of at least one batch, got an empty one. Pass batches with samples.")
