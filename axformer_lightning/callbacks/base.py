"""What the two callbacks share: when a round is due, and what surrounds it."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import lightning as L
from typing_extensions import override

from axformer_lightning.anatomy import HardAttention, find_transformer
from axformer_lightning.callbacks.agreement import agreement, rule_of, settings_of
from axformer_lightning.callbacks.checks import (
    check_module,
    check_scores,
    check_trainer,
    has_setup_of_its_own,
    is_ready,
)
from axformer_lightning.callbacks.round import run_round, starting_point
from axformer_lightning.finding import Pruning
from axformer_lightning.plan import Plan
from axformer_lightning.training import PLANS_KEY, StartingPoint, apply_checkpoint_plans_

logger = logging.getLogger(__name__)

PROGRESS = ("rounds_done", "next_epoch", "pending_epoch")


class SearchCallback(L.Callback):
    """Runs rounds of search; see the two public callbacks.

    Args:
        judged_by: ``criterion``, ``metric``, ``majority``, ``tolerance`` and ``retrain``; None is as the other
            callback's, or the default.
        first_epoch: epoch of the first round, counted from 0.
        rounds: how many rounds there are.
        every_n_epochs: epochs from one round to the next.
        search_dataloader: samples that decide.
        model: dotted attribute path of the Hugging Face model.

    Attributes:
        plan: what has been decided so far, None before the first round.
        rounds_done: how many rounds have run.
        next_epoch: epoch of the next round.
        pending_epoch: epoch whose validation has ended and whose round has not run yet.
    """

    settings: HardAttention | Pruning

    def __init__(
        self,
        *,
        judged_by: Mapping[str, Any],
        first_epoch: int,
        rounds: int,
        every_n_epochs: int,
        search_dataloader: Iterable[Any] | None,
        model: str | None,
    ) -> None:
        for name, value, least in (
            ("first_epoch", first_epoch, 0),
            ("rounds", rounds, 1),
            ("every_n_epochs", every_n_epochs, 1),
        ):
            if value < least:
                raise ValueError(f"Expected `{name}` to be at least {least}, got {value}.")
        if judged_by["retrain"] not in (None, "continue", "rewind"):
            raise ValueError(f"Expected `retrain` to be 'continue' or 'rewind', got {judged_by['retrain']!r}.")
        self.judged_by = dict(judged_by)
        rule_of(self, [self])  # out-of-range settings are refused here, not after training
        self.first_epoch = first_epoch
        self.rounds = rounds
        self.every_n_epochs = every_n_epochs
        self.search_dataloader = search_dataloader
        self.model = model
        self.plan: Plan | None = None
        self.rounds_done = 0
        self.next_epoch = first_epoch
        self.pending_epoch: int | None = None
        self._start: StartingPoint | None = None
        self._is_checked = False

    @property
    @override
    def state_key(self) -> str:
        return self._generate_state_key(model=self.model)

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._cut_before_weights_are_loaded(pl_module)
        if stage != "fit" or _is_dry_run(trainer):
            return
        num_epochs = self._epochs_needed(trainer.check_val_every_n_epoch or 1)
        check_trainer(trainer, type(self).__name__, self._remaining(), num_epochs)
        # Last, so that `ModelCheckpoint.on_train_end` comes before a cut at the end of training.
        others = [other for other in trainer.callbacks if not isinstance(other, SearchCallback)]  # type: ignore[attr-defined]
        trainer.callbacks = [*others, *_search_callbacks(trainer)]  # type: ignore[attr-defined]
        rule_of(self, self._partners(trainer))
        agreement(self._partners(trainer), "retrain")
        self._is_checked = False
        try:
            check_module(pl_module, self.model)
        except ValueError:
            if not has_setup_of_its_own(pl_module):
                raise
            return  # the model may be made later
        if is_ready(trainer, pl_module, find_transformer(pl_module, self.model)):
            self._check_scores(trainer, pl_module)

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not _is_dry_run(trainer) and not self._is_checked:
            check_module(pl_module, self.model)
            self._check_scores(trainer, pl_module)

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        partners = self._partners(trainer)
        at_work = any(other._remaining() for other in partners) and not _is_dry_run(trainer)
        if not at_work or partners[-1] is not self:
            return
        if _search_loader(partners) is None:
            logger.warning(
                "%s decides by the validation dataloader, so the validation metrics are no unbiased estimate any more."
                " Pass `search_dataloader=` with samples that are in neither the training nor the validation set.",
                type(self).__name__,
            )
            if trainer.val_dataloaders is not None:
                check_scores(trainer, pl_module, find_transformer(pl_module, self.model), None)
        if agreement(partners, "retrain") == "rewind":
            start = starting_point(trainer, pl_module, self.model)
            for other in partners:
                other._start = start

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        at_work = trainer.state.fn == "fit" and not trainer.sanity_checking and not _is_dry_run(trainer)
        if at_work and self._remaining() and trainer.current_epoch >= self.next_epoch:
            self.pending_epoch = trainer.current_epoch

    # A round waits until every checkpoint of its validation is written, which Lightning does in `on_validation_end` or
    # as the last thing of `on_train_epoch_end`. So no checkpoint pairs cut weights with the uncut model's metric.
    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._run_pending_round(trainer, pl_module)

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._start is None:  # a model that is rewound and not retrained would be worth nothing
            self._run_pending_round(trainer, pl_module)

    @override
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._remaining() and not _is_dry_run(trainer):
            logger.warning(
                "%s: %d of %d rounds did not run, as the fit ended after %d epochs.",
                type(self).__name__, self._remaining(), self.rounds, trainer.current_epoch,
            )  # fmt: skip

    @override
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        pl_module.__dict__.pop("on_load_checkpoint", None)
        if self._start is not None:
            self._start.path.unlink(missing_ok=True)
            self._start = None

    @override
    def state_dict(self) -> dict[str, Any]:
        plans = [] if self.plan is None else [{"model": self.model, "plan": self.plan.to_dict()}]
        return {PLANS_KEY: plans, **{name: getattr(self, name) for name in PROGRESS}}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        plans = state_dict[PLANS_KEY]
        self.plan = Plan.from_dict(plans[0]["plan"]) if plans else None
        for name in PROGRESS:
            setattr(self, name, state_dict[name])

    def _remaining(self) -> int:
        return self.rounds - self.rounds_done

    def _run_pending_round(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        partners = self._partners(trainer)
        waiting = [other for other in partners if other.pending_epoch is not None]
        if not waiting:
            return  # the first of those that waited has run the round for all
        plan = run_round(
            trainer,
            pl_module,
            find_transformer(pl_module, self.model),
            settings=settings_of(waiting, partners),
            loader=_search_loader(partners),
            start=self._start,
        )
        for other in waiting:
            assert other.pending_epoch is not None
            other.rounds_done += 1
            other.next_epoch = other.pending_epoch + other.every_n_epochs
            other.pending_epoch = None
        for other in partners:
            other.plan = plan

    def _partners(self, trainer: L.Trainer) -> "list[SearchCallback]":
        """Return the callbacks that search the same model, this one among them."""
        return [other for other in _search_callbacks(trainer) if other.model == self.model]

    def _epochs_needed(self, check_val_every_n_epoch: int) -> int:
        """Return the number of epochs after which the last round has run and, if rewound, one has retrained."""
        due, last = self.next_epoch, 0
        for _ in range(self._remaining()):
            last = -(-(due + 1) // check_val_every_n_epoch) * check_val_every_n_epoch
            due = last - 1 + self.every_n_epochs
        return last + int(self.judged_by["retrain"] == "rewind")

    def _check_scores(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let the first of the partners score a batch of the search loader, for all of them."""
        partners = self._partners(trainer)
        loader = _search_loader(partners)
        if loader is not None and partners[0] is self:
            check_scores(trainer, pl_module, find_transformer(pl_module, self.model), loader)
        self._is_checked = True

    def _cut_before_weights_are_loaded(self, pl_module: L.LightningModule) -> None:
        """Lightning loads weights before callbacks; only the module's own hook runs earlier."""
        if "on_load_checkpoint" in pl_module.__dict__:
            return
        own = pl_module.on_load_checkpoint

        def on_load_checkpoint(checkpoint: dict[str, Any]) -> None:
            apply_checkpoint_plans_(pl_module, checkpoint)
            own(checkpoint)

        pl_module.on_load_checkpoint = on_load_checkpoint  # type: ignore[method-assign]


def _search_callbacks(trainer: L.Trainer) -> list[SearchCallback]:
    return [callback for callback in trainer.callbacks if isinstance(callback, SearchCallback)]  # type: ignore[attr-defined]


def _search_loader(partners: Iterable[SearchCallback]) -> Iterable[Any] | None:
    return next((other.search_dataloader for other in partners if other.search_dataloader is not None), None)


def _is_dry_run(trainer: L.Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
