"""When rounds are due, and schedules that are refused before anything trains."""

from collections.abc import Iterable, Sequence

import lightning as L

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.basics import check_type
from axformer_lightning.budgets import Budget
from axformer_lightning.budgets.budget import TIMES
from axformer_lightning.search import Int8, Pruning


class ScheduledCallback(L.Callback):
    """Has rounds, each after the first validation of an epoch in which one is due.

    Args:
        first_epoch: epoch of the first round.
        rounds: how many rounds there are.
        every_n_epochs: epochs from one round to the next.

    Attributes:
        settings: what is searched for.
        rounds_done: how many rounds have run.
        next_epoch: epoch of the next round.
        pending_epoch: epoch whose validation has ended and whose round has not run yet.
    """

    settings: HardAttention | Pruning | Int8 | Budget

    def __init__(self, first_epoch: int, rounds: int, every_n_epochs: int) -> None:
        self.first_epoch = first_epoch
        self.rounds = rounds
        self.every_n_epochs = every_n_epochs
        self.rounds_done = 0
        self.next_epoch = first_epoch
        self.pending_epoch: int | None = None

    @property
    def remaining(self) -> int:
        """How many rounds are to come."""
        return self.rounds - self.rounds_done

    def epochs_due(self, trainer: L.Trainer) -> list[int]:
        """Return the epochs of the rounds to come."""
        interval, due, found = trainer.check_val_every_n_epoch or 1, self.next_epoch, list[int]()
        for _ in range(self.remaining):
            found.append(-(-(due + 1) // interval) * interval - 1)
            due = found[-1] + self.every_n_epochs
        return found

    def end_round(self) -> None:
        """Take note that the pending round has run."""
        assert self.pending_epoch is not None
        self.rounds_done += 1
        self.next_epoch = self.pending_epoch + self.every_n_epochs
        self.pending_epoch = None


def check_schedule(first_epoch: int, rounds: int, every_n_epochs: int, retrain: str | None) -> None:
    """Refuse a schedule of rounds that means nothing.

    Raises:
        ValueError: naming what is out of range.
    """
    counts = {"first_epoch": (first_epoch, 0), "rounds": (rounds, 1), "every_n_epochs": (every_n_epochs, 1)}
    for name, (value, least) in counts.items():
        check_type(name, value, int)
        if value < least:
            raise ValueError(f"Expected `{name}` to be at least {least}, got {value}.")
    if retrain not in (None, "continue", "rewind"):
        raise ValueError(f"Expected `retrain` to be 'continue' or 'rewind', got {retrain!r}.")


def check_int8_is_last(callbacks: Iterable[ScheduledCallback], trainer: L.Trainer) -> None:
    """Refuse rounds that would cut blocks which an earlier round has put into int8; in one epoch int8 goes last.

    Args:
        callbacks: those that share a model.
        trainer: what is asked to fit.

    Raises:
        ValueError: naming the rounds that come in the wrong order.
    """
    due = [(epoch, callback) for callback in callbacks for epoch in callback.epochs_due(trainer)]
    int8 = min((epoch for epoch, callback in due if isinstance(callback.settings, Int8)), default=None)
    for epoch, callback in due:
        if int8 is not None and epoch > int8 and isinstance(callback.settings, Pruning | Budget):
            raise ValueError(
                f"Expected no blocks to be cut once blocks are in int8, got a round of {type(callback).__name__} in"
                f" epoch {epoch} after one of int8 in epoch {int8}. Give Int8Callback a later `first_epoch=`, or the"
                " other fewer `rounds=`."
            )


def check_budgets(callbacks: Sequence[ScheduledCallback], trainer: L.Trainer) -> None:
    """Refuse budgets that cannot be gone down to by so many processes, or after what is cut before.

    Args:
        callbacks: those that share a model.
        trainer: what is asked to fit.

    Raises:
        ValueError: for a floor with several processes; or for times without a table, which are measured of a model of
            which nothing was cut, where another round comes first.
    """
    due = [(epoch, callback) for callback in callbacks for epoch in callback.epochs_due(trainer)]
    for last, callback in due:
        if not isinstance(callback.settings, Budget):
            continue
        callback.settings.check_processes(trainer.world_size)
        for epoch, other in due if callback.settings.measures_times else ():
            # Int8 is the last step of an epoch, and the budget the last but one.
            is_before = epoch < last or (
                epoch == last and other is not callback and not isinstance(other.settings, Int8)
            )
            if is_before:
                asked = " and ".join(f"`{name}`" for name in callback.settings.asked if name in TIMES)
                raise ValueError(
                    "Expected times to be measured before anything is cut, got a round of"
                    f" {type(other).__name__} in epoch {epoch} before one of {type(callback).__name__} with {asked} in"
                    f" epoch {last}. Give a table: `latency_table=measure_latency(model)` (axformer_lightning.timing)."
                )
