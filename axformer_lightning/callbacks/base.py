"""What the two callbacks share: when a round is due, and what surrounds it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import lightning as L
from typing_extensions import override

from axformer_lightning.anatomy import HardAttention, find_transformer, layers_left
from axformer_lightning.budgets import Budget
from axformer_lightning.callbacks.agreement import SCHEDULE, agreed, steps_of_round
from axformer_lightning.callbacks.checks import (
    check_can_write,
    check_module,
    check_scores,
    check_trainer,
    has_setup_of_its_own,
)
from axformer_lightning.callbacks.fit import Fit, begin_fit
from axformer_lightning.callbacks.loading import plan_in, unwatch_loading, watch_loading
from axformer_lightning.callbacks.monitors import hold_monitors, release_monitors, restart_monitors
from axformer_lightning.callbacks.round import run_round
from axformer_lightning.callbacks.schedule import ScheduledCallback, check_budgets, check_int8_is_last, check_schedule
from axformer_lightning.callbacks.search_set import SearchSet, readable_again, search_set
from axformer_lightning.callbacks.speaking import warn_of_rounds_left, warn_that_validation_decides
from axformer_lightning.plan import Plan
from axformer_lightning.search import Int8, Pruning, SearchSettings
from axformer_lightning.training import PLANS_KEY

PROGRESS = ("rounds_done", "next_epoch", "pending_epoch", "restart_due")


class SearchCallback(ScheduledCallback):
    """Runs rounds of search; see the two public callbacks.

    Args:
        settings: what is searched for.
        options: those given of :class:`~axformer_lightning.callbacks.agreement.CallbackOptions`; one that is None is
            as the other callback's, or the default.

    Attributes:
        plan: what has been decided so far, None before the first round.
        rounds_done: how many rounds have run.
        next_epoch: epoch of the next round.
        pending_epoch: epoch whose validation has ended and whose round has not run yet.
        restart_due: whether a cut has come after the last validation, so that monitors start anew at the next.
    """

    def __init__(self, settings: HardAttention | Pruning | Int8 | Budget, options: Mapping[str, Any]) -> None:
        self.settings = settings
        self.options = {name: value for name, value in options.items() if value is not None}
        schedule = SCHEDULE | self.options
        super().__init__(schedule["first_epoch"], schedule["rounds"], schedule["every_n_epochs"])
        self.search_dataloader: SearchSet | None = readable_again(schedule["search_dataloader"])
        self.model: str | None = schedule["model"]
        # Out of range is refused here, not after training.
        check_schedule(self.first_epoch, self.rounds, self.every_n_epochs, self._shared()["retrain"])
        steps_of_round([self], [self])
        self.plan: Plan | None = None
        self.restart_due = False
        self._fit = Fit()

    @property
    @override
    def state_key(self) -> str:
        return self._generate_state_key(model=self.model)

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        release_monitors(trainer)
        watch_loading(trainer, pl_module)
        if stage == "fit":
            self.pending_epoch, self.restart_due = None, False
            self._begin_anew_with_another(pl_module)
        if stage != "fit" or _is_dry_run(trainer):
            return
        rewinds = self._shared(trainer)["retrain"] == "rewind"
        num_epochs = max(self.epochs_due(trainer), default=-1) + 1 + int(rewinds)  # to retrain in
        check_trainer(trainer, type(self).__name__, self.remaining, num_epochs)
        if rewinds:
            check_can_write(trainer)
        # Last, so that `ModelCheckpoint.on_train_end` comes before a cut at the end of training.
        others = [other for other in trainer.callbacks if not isinstance(other, SearchCallback)]  # type: ignore[attr-defined]
        trainer.callbacks = [*others, *_search_callbacks(trainer)]  # type: ignore[attr-defined]
        if not self.remaining:
            return  # rounds that have run may have left what could not be cut again
        working = self._working(trainer)
        if working[-1] is self:  # all others have been set up by now
            check_int8_is_last(working, trainer)
            check_budgets(working, trainer)
        try:
            check_module(pl_module, self.model, self._steps(trainer))
        except ValueError:
            if not has_setup_of_its_own(pl_module):
                raise  # else the model may be made later

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin_anew_with_another(pl_module)  # a hook of the module may have made it meanwhile
        if self.remaining and not _is_dry_run(trainer):  # once more, as weights have the precision of training now
            check_module(pl_module, self.model, self._steps(trainer))

    # Not before, as a step may use the optimizers, or what the module makes in `on_fit_start`.
    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        partners = self._partners(trainer)
        at_work = any(other.remaining for other in partners) and not _is_dry_run(trainer)
        if not at_work or partners[-1] is not self:
            return
        transformer, loader = find_transformer(pl_module, self.model), self._search_set(trainer, pl_module)
        if loader is None:
            warn_that_validation_decides(type(self).__name__)
        check_scores(trainer, pl_module, transformer, loader, self._steps(trainer))
        rewinds = self._shared(trainer)["retrain"] == "rewind"
        resumed = self._fit.resumed
        for other in partners:
            other._fit = Fit()  # as weights that a callback keeps are taken for an average
        fit = begin_fit(trainer, pl_module, transformer, self.model, rewinds=rewinds, resumed=resumed)
        for other in partners:
            other._fit = fit

    @override
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.restart_due and not trainer.sanity_checking:
            restart_monitors(trainer)
            for other in self._partners(trainer):
                other.restart_due = False

    # Not in `on_validation_end`, in which a checkpoint may be written before: it would not hold the pending round.
    @override
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        at_work = trainer.state.fn == "fit" and not trainer.sanity_checking and not _is_dry_run(trainer)
        if at_work and self.remaining and trainer.current_epoch >= self.next_epoch:
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
        if self._fit.start is None:  # a model that is rewound and not retrained would be worth nothing
            self._run_pending_round(trainer, pl_module)

    @override
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.remaining and not _is_dry_run(trainer):
            warn_of_rounds_left(type(self).__name__, self.remaining, self.rounds, trainer.current_epoch)

    @override
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._let_go(trainer, pl_module, keeps_journals=stage != "fit")

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._let_go(trainer, pl_module, keeps_journals=True)  # Lightning leaves out `teardown`

    @override
    def state_dict(self) -> dict[str, Any]:
        plan = None if self.plan is None else self.plan.to_dict()
        return {PLANS_KEY: [{"model": self.model, "plan": plan}], **{name: getattr(self, name) for name in PROGRESS}}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        (item,) = state_dict[PLANS_KEY]
        self.plan = None if item["plan"] is None else Plan.from_dict(item["plan"])
        for name in PROGRESS:
            setattr(self, name, state_dict[name])

    # Several callbacks share it, so it is the state of none. Without it a resumed fit would rewind to where it goes on.
    @override
    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        partners = self._partners(trainer)
        if partners[-1] is self and any(other.remaining for other in partners):
            self._fit.keep_start(checkpoint, find_transformer(pl_module, self.model), self.model)

    @override
    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._fit = Fit.resuming(checkpoint, self.model)

    def _let_go(self, trainer: L.Trainer, pl_module: L.LightningModule, *, keeps_journals: bool) -> None:
        unwatch_loading(pl_module)
        release_monitors(trainer)
        self._fit.end(keeps_journals=keeps_journals)
        self._fit = Fit()

    def _run_pending_round(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        partners = self._partners(trainer)
        waiting = [other for other in partners if other.pending_epoch is not None]
        if not waiting:
            return  # the first of those that waited has run the round for all
        transformer = find_transformer(pl_module, self.model)
        before, loader = layers_left(transformer), self._search_set(trainer, pl_module)
        *first, last = steps_of_round(waiting, partners)
        for settings in first:
            without = replace(self._fit, start=None)  # rewound weights would be scored by what comes next
            run_round(trainer, pl_module, transformer, settings=settings, loader=loader, fit=without)
        plan = run_round(trainer, pl_module, transformer, settings=last, loader=loader, fit=self._fit)
        for other in waiting:
            other.end_round()
        for other in partners:
            other.plan = plan
        if trainer.training and before != layers_left(transformer):
            hold_monitors(trainer)
            for other in partners:
                other.restart_due = True

    def _partners(self, trainer: L.Trainer) -> "list[SearchCallback]":
        """Return the callbacks that search the same model, this one among them."""
        return [other for other in _search_callbacks(trainer) if other.model == self.model]

    def _search_set(self, trainer: L.Trainer, pl_module: L.LightningModule) -> Iterable[Any] | None:
        given = [other.search_dataloader for other in self._partners(trainer) if other.search_dataloader is not None]
        return search_set(trainer, pl_module, given[0] if given else None)

    def _working(self, trainer: L.Trainer) -> "list[SearchCallback]":
        """Return the partners with rounds to come."""
        return [other for other in self._partners(trainer) if other.remaining]

    def _steps(self, trainer: L.Trainer) -> list[SearchSettings | Budget]:
        """Return what a round of all partners with rounds to come would do, one step after another."""
        return steps_of_round(self._working(trainer), self._partners(trainer))

    def _shared(self, trainer: L.Trainer | None = None) -> dict[str, Any]:
        """Return the options that it shares with its partners."""
        return agreed([self] if trainer is None else self._partners(trainer))

    def _begin_anew_with_another(self, pl_module: L.LightningModule) -> None:
        """Forget the rounds of another module; those of this one count, however often it is fitted."""
        plan = plan_in(pl_module, self.model)
        if plan != self.plan:
            self.plan, self.rounds_done, self.next_epoch = plan, 0, self.first_epoch


def _search_callbacks(trainer: L.Trainer) -> list[SearchCallback]:
    return [callback for callback in trainer.callbacks if isinstance(callback, SearchCallback)]  # type: ignore[attr-defined]


def _is_dry_run(trainer: L.Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
