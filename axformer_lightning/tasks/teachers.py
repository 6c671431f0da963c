"""Models that teach: fine-tuned on a task already, from a directory."""

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from axformer_lightning.artifacts import load_pretrained
from axformer_lightning.artifacts.files import PLAN_FILE
from axformer_lightning.costs import num_positions
from axformer_lightning.tasks.models import head_of, load_tokenizer
from axformer_lightning.tasks.task import Task


def directory_of_teacher(directory: str | os.PathLike[str]) -> Path:
    """Return the directory of a teacher.

    Raises:
        FileNotFoundError: if there is none.
    """
    if not Path(directory).is_dir():
        raise FileNotFoundError(
            f"Expected a directory with a fine-tuned model as the teacher, got {os.fspath(directory)!r}. Pass the"
            " directory of a model and its tokenizer (`distillation.teacher=DIR`), or `self`."
        )
    return Path(directory)


def load_teacher(task: Task, directory: str | os.PathLike[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a model that is fine-tuned for the kind of ``task``, cut or not, in eval mode, and its tokenizer.

    Args:
        task: gives the kind of the head.
        directory: of transformers' `save_pretrained`, or an artifact.

    Raises:
        FileNotFoundError: if there is no such directory.
        ValueError: if the model cannot be read or has no fine-tuned head of that kind, or no tokenizer is beside it.
    """
    source = directory_of_teacher(directory)
    if (source / PLAN_FILE).is_file():
        cut = load_pretrained(source, dtype="float32")
        _check_kind(task, source, [type(cut).__name__])
        return cut, load_tokenizer(source, "teacher")
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from error
    _check_kind(task, source, config.architectures or [])
    tokenizer = load_tokenizer(source, "teacher")
    try:
        model: PreTrainedModel = head_of(task)[0].from_pretrained(source, dtype="float32")
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(source, error) from error
    return model.eval(), tokenizer


def teacher_for(
    task: Task, directory: str | os.PathLike[str], max_length: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a teacher as :func:`load_teacher` does, if it answers what is asked in a run.

    Args:
        task: of the run.
        directory: of the teacher.
        max_length: tokens of the longest sample.

    Raises:
        FileNotFoundError: if there is no such directory.
        ValueError: as :func:`load_teacher`, or if it has another number of labels, or too few positions.
    """
    teacher, tokenizer = load_teacher(task, directory)
    wanted, got = head_of(task)[1]["num_labels"], teacher.config.num_labels
    if got != wanted:
        raise ValueError(
            f"Expected a teacher for {wanted} labels, as the task has, got one for {got} in {os.fspath(directory)!r}."
            " Use a teacher that was fine-tuned on this task."
        )
    if max_length > (positions := num_positions(teacher)):
        raise ValueError(
            f"Expected a teacher with at least the {max_length} positions of `data.max_length`, got {positions} in"
            f" {os.fspath(directory)!r}. Lower `data.max_length`, or take another teacher."
        )
    return teacher, tokenizer


def _unreadable(source: Path, error: Exception) -> ValueError:
    said = str(error).splitlines()[0].rstrip(".")
    return ValueError(
        f"Expected a directory with a fine-tuned model as the teacher, got {os.fspath(source)!r}: {said}. Save the"
        " model there with its tokenizer, or take the `finetuned/` of a run of train.py."
    )


def _check_kind(task: Task, source: Path, classes: Sequence[str]) -> None:
    kind = head_of(task)[0].__name__.removeprefix("AutoModel")
    if not any(name.endswith(kind) for name in classes):
        raise ValueError(
            f"Expected a teacher with a fine-tuned head of the task's kind, {kind!r}, got {os.fspath(source)!r} with"
            f" {classes}. Fine-tune it on the task first, for example by train.py: its `finetuned/` is a teacher."
        )


def same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase, texts: Iterable[str]) -> bool:
    """Tell whether two tokenizers have one vocabulary, and make the same of the first hundred texts."""
    some = list(islice(texts, 100))
    return one.get_vocab() == other.get_vocab() and one(some)["input_ids"] == other(some)["input_ids"]
