"""The teacher of a run's retraining."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from datasets import Dataset, concatenate_datasets
from filelock import FileLock
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from axformer_lightning.artifacts import load_pretrained
from axformer_lightning.basics import digest_of
from axformer_lightning.distillation import (
    Distillation,
    check_teacher,
    digest_of_model,
    distilled,
    kept_logits,
    teacher_logits,
)
from axformer_lightning.plan import applied_plan
from axformer_lightning.tasks import Task, load_teacher, read_unlabelled, reworded, same_tokens, teacher_for
from axformer_lightning.tasks.module import FineTuner
from axformer_lightning.tasks.task_data import TaskData

MORE_TEXTS = ("copies", "noise", "texts")  # the settings of `distillation` that are of data, not of the loss


@dataclass(frozen=True)
class Teacher:
    """Where the teacher of a run is, and how it reads the run's rows.

    Args:
        directory: of the model.
        task: of the run.
        settings: what it teaches, and how much.
        make_data: makes the run's data with another tokenizer; None for a teacher that reads the run's own.
        answers: where its answers are kept for all runs of a sweep; by default with the progress of the run.
    """

    directory: Path
    task: Task
    settings: Distillation
    make_data: Callable[[PreTrainedTokenizerBase], TaskData] | None = None
    answers: Path | None = None

    def check(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], max_length: int
    ) -> None:
        """Raise unless the teacher, which exists already, can teach the run's model.

        Args:
            model: of the run.
            tokenizer: of the model.
            texts: of the training set.
            max_length: tokens of the longest sample.

        Raises:
            ValueError: as :func:`~axformer_lightning.tasks.teacher_for` and
                :func:`~axformer_lightning.distillation.check_teacher`; or if it has another tokenizer, and the task is
                to find positions.
        """
        teacher, own = teacher_for(self.task, self.directory, max_length)
        same = same_tokens(tokenizer, own, texts)
        check_teacher(teacher, model, self.settings, same_inputs=same)
        if self.task.kind == "question_answering" and not same:
            raise ValueError(
                "Expected a teacher with the model's own tokenizer for question answering, where logits belong to"
                f" tokens, got another one in {str(self.directory)!r}. Take `distillation=self`, or a teacher of the"
                " same pre-trained model."
            )

    def load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
        """Return the model, and its tokenizer if it has one of its own."""
        if self.make_data is None:
            return load_pretrained(self.directory, dtype="float32"), None
        return load_teacher(self.task, self.directory)


def more_texts(
    settings: Mapping[str, Any] | None, task: Task, train: Dataset, held_out: Sequence[Dataset], seed: int
) -> dict[str, Dataset]:
    """Return what a teacher answers beside the training set, as an option of the data: nothing, if there is no teacher.

    Args:
        settings: those of `distillation`, of which `copies`, `noise` and `texts` count here.
        task: of the run.
        train: the training set.
        held_out: the search set and the dev sets, which the teacher does not answer.
        seed: of the copies.

    Raises:
        FileNotFoundError: as :func:`~axformer_lightning.tasks.read_unlabelled`.
        ValueError: likewise, and as :func:`~axformer_lightning.tasks.reworded`.
    """
    parts = []
    if settings and settings["copies"]:
        parts.append(reworded(train, copies=settings["copies"], noise=settings["noise"], seed=seed))
    if settings and settings["texts"]:
        parts.append(read_unlabelled(settings["texts"], task, train, held_out))
    return {"copies": concatenate_datasets(parts)} if parts else {}


@contextmanager
def taught(module: FineTuner, data: TaskData, teacher: Teacher, trainer: L.Trainer, folder: Path) -> Iterator[None]:
    """Let a teacher take part in the training of ``module`` on ``data``.

    What it says of the rows is computed once and kept, so no epoch runs it. Hidden states are too many to keep: where
    they have a weight, the teacher runs in every step. Copies and other texts are
    trained on, too, if ``data`` has them.

    Args:
        module: is trained.
        data: as it will be trained on.
        teacher: exists by now.
        trainer: gives device and precision.
        folder: where the logits are kept.
    """
    model, tokenizer = teacher.load()
    data.train_on_copies = True
    try:
        if teacher.settings.hidden:
            with distilled(module.model, model, teacher.settings):
                yield
            return
        own = data if tokenizer is None or teacher.make_data is None else teacher.make_data(tokenizer)
        own.train_on_all, own.train_on_copies = data.train_on_all, True
        data.teacher_logits = [row for rows in own.trained_on() for row in _logits(model, own, rows, trainer, folder)]
        module.distillation = teacher.settings
        yield
    finally:
        data.teacher_logits = module.distillation = None
        data.train_on_copies = False


def _logits(model: PreTrainedModel, data: TaskData, rows: Dataset, trainer: L.Trainer, folder: Path) -> list[Tensor]:
    def compute() -> list[Tensor]:
        model.to(trainer.strategy.root_device)  # type: ignore[arg-type]
        lengths = [len(ids) for ids in rows["input_ids"]]
        longest_first = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)  # next to no padding
        with trainer.precision_plugin.forward_context(), isolate_rng():
            logits = teacher_logits(model, data.in_order(rows.select(longest_first)))
        said = dict(zip(longest_first, logits, strict=True))
        return [said[row] for row in range(len(rows))]

    plan = applied_plan(model)
    about = (digest_of_model(model), str(model.config), "" if plan is None else plan.to_json(), str(trainer.precision))
    key = digest_of([*(part.encode() for part in about), *(str(row).encode() for row in rows["input_ids"])]).hex()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"teacher-{key[:16]}.safetensors"
    with FileLock(path.with_suffix(".lock")):  # of several runs one asks, and the others read
        return kept_logits(path, key, compute)
