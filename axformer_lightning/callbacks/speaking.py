"""What a round tells in a user's fit: its progress, and at the end one sentence and numbers for the loggers."""

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_info
from tqdm.auto import tqdm

from axformer_lightning.anatomy import KINDS, LayerPlan
from axformer_lightning.callbacks.sharing import logger
from axformer_lightning.plan import Plan
from axformer_lightning.search import OnTrial, SearchCounts, Trial

PICTURES = ("matplotlib", "rich")  # what `axformer_lightning.report` needs; both are optional


@contextmanager
def search_progress(trainer: L.Trainer, total: int | None) -> Iterator[OnTrial]:
    """Show the progress of a search as the trainer shows that of training: with rich, with tqdm, or not at all.

    Args:
        trainer: whose progress bar decides.
        total: how many candidates there will be, without parts of rejected blocks; None if that is unknown.

    Yields:
        What is told of every candidate.
    """
    bar = trainer.progress_bar_callback
    if bar is None or not trainer.is_global_zero:
        yield lambda trial: None
    elif any(parent.__name__ == "RichProgressBar" for parent in type(bar).__mro__) and _can_draw():
        from axformer_lightning.report import SearchProgress

        with SearchProgress(total) as progress:
            yield progress.on_trial
    else:
        with tqdm(total=total, desc="Search", leave=False, dynamic_ncols=True, file=sys.stdout) as line:
            accepted = 0

            def on_trial(trial: Trial[Any, Any]) -> None:
                nonlocal accepted
                accepted += trial.accepted
                loss = trial.score.loss if trial.accepted else trial.best_before.loss
                line.set_postfix_str(f"{accepted} accepted, loss {loss:.4f}, {trial.candidate}", refresh=False)
                line.update(KINDS[trial.candidate.kind].phase is not None)

            yield on_trial


def numbers_of(
    plan: Plan, counts: SearchCounts, before: Sequence[LayerPlan], parameters: tuple[int, int]
) -> dict[str, float]:
    """Return what a round has done, by the names that the logger gets.

    Args:
        plan: with the decisions of the round last.
        counts: of the round.
        before: what was left of each layer before it.
        parameters: of the transformer, before and after.
    """
    decisions = plan.decisions[len(plan.decisions) - counts.candidates :]
    losses = [decision.loss for decision in decisions if decision.accepted and decision.loss is not None]
    touched = sum(one != other for one, other in zip(before, plan.layers, strict=True))
    numbers: dict[str, float] = {"candidates": counts.candidates, "accepted": counts.accepted}
    numbers |= {"parameters_before": parameters[0], "parameters": parameters[1], "layers_touched": touched}
    if decisions:
        numbers |= {"loss_before": decisions[0].best_before, "loss": (losses or [decisions[0].best_before])[-1]}
    return numbers


def sentence_of(numbers: dict[str, float]) -> str:
    """Say in one sentence what a round has done; if nothing, what would do more.

    Example:
        >>> numbers = {"candidates": 9, "accepted": 1, "layers_touched": 1, "parameters_before": 20, "parameters": 15}
        >>> sentence_of(numbers | {"loss_before": 0.5, "loss": 0.45})
        'AxFormer: 1 of 9 candidates accepted in 1 layer; 20 parameters become 15 (-25.0%); loss 0.5000 -> 0.4500.'
    """
    if not numbers["accepted"]:
        return (
            f"AxFormer: none of {numbers['candidates']} candidates accepted, nothing is removed. A larger `tolerance=`"
            " or more search samples would remove more, and so may `criterion='loss'` or `majority=0`."
        )
    before, after, layers = numbers["parameters_before"], numbers["parameters"], numbers["layers_touched"]
    return (
        f"AxFormer: {numbers['accepted']} of {numbers['candidates']} candidates accepted in {layers}"
        f" layer{'s' * (layers != 1)}; {before:,} parameters become {after:,} ({after / before - 1:+.1%}); loss"
        f" {numbers['loss_before']:.4f} -> {numbers['loss']:.4f}."
    )


def speak(trainer: L.Trainer, plan: Plan, numbers: dict[str, float]) -> None:
    """Print the sentence, and hand numbers and the picture of the plan to the loggers, where they take pictures."""
    rank_zero_info(sentence_of(numbers))
    for one in trainer.loggers if trainer.is_global_zero else ():
        one.log_metrics({f"axformer/{name}": float(value) for name, value in numbers.items()}, trainer.global_step)
        if _can_draw():
            _log_picture(one, plan, trainer.global_step)


def warn_that_validation_decides(name: str) -> None:
    """Warn that a callback of this name has no search set of its own."""
    logger.warning(
        "%s decides by the validation dataloader, so the validation metrics are no unbiased estimate any more. Pass"
        " `search_dataloader=` with samples that are in neither the training nor the validation set.",
        name,
    )


def warn_of_rounds_left(name: str, left: int, rounds: int, epochs: int) -> None:
    """Warn that a fit of so many epochs was over before all rounds of a callback had run."""
    logger.warning("%s: %d of %d rounds did not run, as the fit ended after %d epochs.", name, left, rounds, epochs)


def _log_picture(to: Any, plan: Plan, step: int) -> None:
    takes_files, experiment = hasattr(to, "log_image"), getattr(to, "experiment", None)
    if not takes_files and not hasattr(experiment, "add_figure"):
        return
    from axformer_lightning.report.picture import draw_plan, plan_figure

    if not takes_files:  # TensorBoard
        experiment.add_figure("axformer/plan", plan_figure(plan), step)  # type: ignore[union-attr]
        return
    with TemporaryDirectory() as directory:  # Weights & Biases
        path = Path(directory, "plan.png")
        draw_plan(plan, path)
        to.log_image("axformer/plan", [str(path)])


def _can_draw() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in PICTURES)
