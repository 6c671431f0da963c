"""The stages of a run: fine-tune, search and cut, retrain, report. Each leaves its output on disk."""

import copy
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.seed import isolate_rng
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from axformer_lightning.anatomy import anatomy_of, layers_left
from axformer_lightning.artifacts import save_pretrained
from axformer_lightning.basics import dropping
from axformer_lightning.callbacks import SearchCallback, settings_of
from axformer_lightning.report import SearchProgress
from axformer_lightning.rounds import search_and_cut_
from axformer_lightning.runs.dev import dev_metrics
from axformer_lightning.runs.logged import told_of_search
from axformer_lightning.runs.resume import LastEpoch, Progress, epochs_done
from axformer_lightning.runs.retraining import Recipe, retrain, search_metrics
from axformer_lightning.runs.teaching import Teacher, taught
from axformer_lightning.scoring import check_agreement, search_batches
from axformer_lightning.search import SearchCounts, SearchSettings, count_wholes
from axformer_lightning.tasks.module import FineTuner
from axformer_lightning.tasks.random_states import RandomStates
from axformer_lightning.tasks.task_data import TaskData
from axformer_lightning.training import StartingPoint

logger = logging.getLogger(__name__)

MakeTrainer = Callable[[str, int], L.Trainer]  # stage, epochs -> trainer


@dataclass(frozen=True)
class Run:
    """What all stages of one run share.

    Args:
        directory: where outputs go.
        module: is fine-tuned, searched and cut.
        data: training, search and dev set.
        tokenizer: saved beside every model.
        make_trainer: gives the trainer of a stage.
        progress: the stages that are finished.
        show_progress: whether the search shows a progress bar.
        make_loggers: gives the loggers of a stage that trains nothing.
    """

    directory: Path
    module: FineTuner
    data: TaskData
    tokenizer: PreTrainedTokenizerBase
    make_trainer: MakeTrainer
    progress: Progress
    show_progress: bool = True
    make_loggers: Callable[[str], Sequence[Logger]] = lambda stage: ()

    @property
    def model(self) -> PreTrainedModel:
        """The Hugging Face model inside the module."""
        return self.module.model


def fine_tune(run: Run, epochs: int) -> dict[str, float]:
    """Fine-tune, save the dense model to `finetuned/`, and return its metrics on the dev set."""

    def stage() -> dict[str, float]:
        logger.info("Fine-tune: %s.", _epochs(epochs))
        check_agreement(run.module, run.data.val_dataloader(), run.model.config.problem_type)
        _fit(run, "finetune", epochs)
        save_pretrained(run.model, run.directory / "finetuned", tokenizer=run.tokenizer)
        return dev_metrics(run.module, run.data, run.make_trainer("report", 0), run.directory / "finetuned")

    return run.progress.once("finetune", run.module, stage)


def search_and_cut(
    run: Run,
    callbacks: Sequence[SearchCallback],
    *,
    rounds: int,
    recipe: Recipe,
    start: StartingPoint | None,
    teacher: Teacher | None,
    dense: bool,
    max_length: int,
    tell: Callable[[str], None],
    what: str,
    prefix: str = "",
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run the rounds of search, cut and retraining.

    Args:
        run: the run after fine-tuning.
        callbacks: what is searched for and by which rule; none searches nothing.
        rounds: how many rounds there are at most; a round that accepts nothing is the last.
        recipe: of each retraining.
        start: where to rewind to, if the recipe says so.
        teacher: takes part in the retraining, if there is one.
        dense: whether nothing is searched for or cut, and only the retraining is done.
        max_length: of a sample, for the count of the reference procedure's work.
        tell: is told what the model was after each stage.
        what: a search made of it.
        prefix: of the names of these stages, where a run has others of the kind.

    Returns:
        The entries `search` and `retraining` of results.json.
    """
    total, retraining = _added_up(SearchCounts()), []
    for round_ in range(1, rounds + 1) if callbacks or dense else ():
        again = [f"round {round_}"] if round_ > 1 else []
        if not dense:
            settings = settings_of(callbacks, callbacks, max_length)
            stage = f"{prefix}search{round_}"
            counts = run.progress.once(stage, run.module, partial(_search, run, stage, settings))
            total = {name: value + counts[name] for name, value in total.items()}
            tell(", ".join([what, *again]))
            if counts["accepted"] == 0:
                if recipe.epochs and recipe.on_all:
                    said = (
                        "Round %d of %d accepts nothing and is the last: `retrain_on_all` has no retraining to act on."
                    )
                    logger.warning(said, round_, rounds)
                break
        if recipe.epochs:
            run.data.train_on_all = recipe.on_all and round_ == rounds
            stage = f"{prefix}retrain{round_}"
            train = partial(retrain_model, run, stage, recipe, start, teacher)
            retraining.append(run.progress.once(stage, run.module, train))
            tell(", ".join([*([] if dense else [what]), "retrained", *again]))
    return total, retraining


def _fit(
    run: Run, stage: str, epochs: int, start: StartingPoint | None = None, callbacks: Sequence[L.Callback] = ()
) -> None:
    """Train, from the last epoch that a killed process has finished."""
    checkpoint = run.progress.checkpoint(stage)
    resumed = checkpoint if checkpoint.exists() else None
    if resumed is not None:  # with logs of its own, as a logger replaces those that are there
        stage += f"_from_epoch{epochs_done(resumed)}"
    trainer = run.make_trainer(stage, epochs)
    trainer.callbacks += [*callbacks, RandomStates(), LastEpoch(checkpoint)]  # type: ignore[attr-defined]
    if epochs:
        retrain(run.module, run.data, trainer, start=start, checkpoint=resumed)


def _search(run: Run, stage: str, settings: SearchSettings) -> dict[str, Any]:
    """Search and cut, and return the counts."""
    phases = ("hard attention", settings.hard_attention), ("pruning", settings.pruning), ("int8", settings.int8)
    tried = [name for name, on in phases if on]
    logger.info("Search and cut: %s.", ", then ".join(tried))
    total = count_wholes(anatomy_of(run.model), layers_left(run.model), settings)
    run.module.to(run.make_trainer("search", 0).strategy.root_device)
    with (
        isolate_rng(),
        SearchProgress(total, enabled=run.show_progress) as progress,
        told_of_search(run.make_loggers(stage), progress) as on_trial,
    ):
        batches = search_batches(run.module, run.data.val_dataloader(), settings.batch_tokens, run.model.config)
        journal = run.progress.journal(stage)
        cut = search_and_cut_(run.module, run.model, batches, settings, journal=journal, on_trial=on_trial)
    return _added_up(cut.counts)


def _added_up(counts: SearchCounts) -> dict[str, Any]:
    """Return the counts that rounds add up; a peak of memory is none of them."""
    return {name: value for name, value in asdict(counts).items() if name != "kept_bytes"}


def retrain_model(
    run: Run, stage: str, recipe: Recipe, start: StartingPoint | None, teacher: Teacher | None
) -> dict[str, Any]:
    """Train once more, and return which model is kept, with what the search set says of both where it decides."""
    first = ", from the first weights" if recipe.how == "rewind" else ""
    copies = run.data.copied_rows
    more = "" if copies is None else f" and {len(copies):,} texts beside the training set"
    told = f", with a teacher{more}" if teacher else ""
    logger.info("Retrain: %s%s%s.", _epochs(recipe.epochs), first, told)
    run.module.learning_rate = recipe.learning_rate or run.module.learning_rate
    judge = run.make_trainer("search", 0)
    before = copy.deepcopy(run.module.state_dict()) if recipe.compares else None
    scores = {"before": search_metrics(run.module, run.data, judge)} if before is not None else {}
    back_to = start if recipe.how == "rewind" else None
    with _lessons(run, teacher), dropping(run.module, recipe.dropout):
        _fit(run, stage, recipe.epochs, back_to, recipe.callbacks())
    if before is None:
        return {"kept": "after"}
    scores["after"] = search_metrics(run.module, run.data, judge)
    is_better = recipe.is_better(**scores)
    if not is_better:
        logger.info("Retraining is undone: the search set says that it is no better.")
        run.module.load_state_dict(before)
    return {"kept": "after" if is_better else "before", **scores}


def _lessons(run: Run, teacher: Teacher | None) -> AbstractContextManager[None]:
    if teacher is None:
        return nullcontext()
    # It answers as it would in a step of training: where autocast is faster there, it is here, too.
    return taught(run.module, run.data, teacher, run.make_trainer("teach", 0), teacher.answers or run.progress.folder)


def _epochs(number: int) -> str:
    return "1 epoch" if number == 1 else f"{number} epochs"
