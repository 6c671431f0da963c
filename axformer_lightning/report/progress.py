"""A line on the terminal that shows the progress of a search."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from axformer_lightning.anatomy import KINDS, Candidate
from axformer_lightning.replay import Score
from axformer_lightning.search import Trial


class SearchProgress:
    """Shows the progress of a search: a line that is updated during the ``with`` block and stays afterwards.

    Args:
        total: how many candidates there will be, without parts of rejected blocks; None if that is unknown.
        enabled: False shows nothing at all.
        console: where to show it; standard error by default.

    Example:
        >>> trial = Trial(Candidate("head", 2, 5), Score(0.4, 3, 4), Score(0.5, 4, 4), accepted=True)
        >>> with SearchProgress(total=10, enabled=False) as progress:
        ...     progress.on_trial(trial)  # find_plan(model, batches, on_trial=progress.on_trial)
        >>> progress.tried, progress.accepted, progress.best_loss
        (1, 1, 0.4)
    """

    def __init__(self, total: int | None = None, *, enabled: bool = True, console: Console | None = None) -> None:
        self.enabled = enabled
        self.tried = 0
        self.wholes = 0
        self.accepted = 0
        self.best_loss: float | None = None
        self._progress = Progress(
            SpinnerColumn(),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            BarColumn(bar_width=10),  # nothing else wraps, so this shrinks on a narrow terminal
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.description}", markup=False),
            console=console or Console(stderr=True),
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        if self.enabled:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.enabled:
            self._progress.stop()

    def on_trial(self, trial: Trial[Candidate, Score]) -> None:
        """Count one candidate that was tried.

        Args:
            trial: the candidate and its result.
        """
        self.tried += 1
        self.wholes += KINDS[trial.candidate.kind].phase is not None
        self.accepted += trial.accepted
        self.best_loss = trial.score.loss if trial.accepted else trial.best_before.loss
        self._progress.update(
            self._task,
            completed=self.wholes,
            description=f"{self.accepted} of {self.tried} accepted, loss {self.best_loss:.4f}, {trial.candidate}",
        )
