"""What the loggers of a run are told beside training: the search as it goes, then the results and the picture."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.image
from lightning.pytorch.loggers import Logger
from rich.console import Console

from axformer_lightning.anatomy import Candidate
from axformer_lightning.replay import Score
from axformer_lightning.report import SearchProgress, results_table
from axformer_lightning.search import Trial


@contextmanager
def told_of_search(
    loggers: Sequence[Logger], progress: SearchProgress
) -> Iterator[Callable[[Trial[Candidate, Score]], None]]:
    """Yield what tells loggers, and the bar, of each candidate: its loss, the best one, and how many were accepted.

    One whose evaluation was stopped early has no loss, and none is logged.

    Args:
        loggers: of this stage.
        progress: counts the candidates.
    """

    def on_trial(trial: Trial[Candidate, Score]) -> None:
        progress.on_trial(trial)
        metrics = {"loss": trial.score.loss, "best_loss": progress.best_loss, "accepted": progress.accepted}
        known = {f"search/{name}": float(value) for name, value in metrics.items() if value is not None}
        for logger in loggers:
            logger.log_metrics(known, progress.tried)

    with _finalized(loggers):
        yield on_trial


def log_results(loggers: Sequence[Logger], results: Mapping[str, Any], picture: Path) -> None:
    """Give loggers what results.json holds of both models, the share that is gone, the table and the picture.

    Args:
        loggers: of the report.
        results: content of results.json.
        picture: what is left, as a PNG.
    """
    sides = {side: results[side] for side in ("baseline", "axformer")}
    metrics = {name: value for side, part in sides.items() for name, value in _numbers(part, f"{side}/")}
    metrics["removed"] = 1 - sides["axformer"]["encoder_parameters"] / sides["baseline"]["encoder_parameters"]
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(results_table(results))
    table = console.export_text()
    with _finalized(loggers):
        for logger in loggers:
            logger.log_metrics(metrics, 0)
            if (show := SHOWN.get(type(logger).__name__)) is not None:
                show(logger, picture, table)


def _numbers(part: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in part.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield prefix + name, float(value)


@contextmanager
def _finalized(loggers: Sequence[Logger]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for logger in loggers:
            logger.finalize("failed")
        raise
    for logger in loggers:
        logger.finalize("success")


def _to_tensorboard(logger: Any, picture: Path, table: str) -> None:
    logger.experiment.add_image("plan", matplotlib.image.imread(picture), 0, dataformats="HWC")
    logger.experiment.add_text("results", "\n".join(f"    {line}" for line in table.splitlines()), 0)  # as code


def _to_wandb(logger: Any, picture: Path, table: str) -> None:
    logger.log_image(key="plan", images=[str(picture)])
    logger.log_table(key="results", columns=["results"], data=[[line] for line in table.splitlines()])


def _to_mlflow(logger: Any, picture: Path, table: str) -> None:
    logger.experiment.log_artifact(logger.run_id, str(picture))
    logger.experiment.log_text(logger.run_id, table, "results.txt")


# How a logger shows a picture and a text, by the name of its class: the packages behind them are not all installed.
SHOWN: dict[str, Callable[[Any, Path, str], None]] = {
    "TensorBoardLogger": _to_tensorboard,
    "WandbLogger": _to_wandb,
    "MLFlowLogger": _to_mlflow,
}
