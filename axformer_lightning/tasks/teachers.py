"""Models that teach: fine-tuned on a task already, from a directory."""

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from axformer_lightning.artifacts import load_pretrained
from axformer_lightning.artifacts.files import PLAN_FILE
from axformer_lightning.tasks.models import head_of
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
        ValueError: if the model has no fine-tuned head of that kind, or no tokenizer is beside it.
    """
    source = directory_of_teacher(directory)
    auto_model, _ = head_of(task)
    kind = auto_model.__name__.removeprefix("AutoModel")
    is_artifact = (source / PLAN_FILE).is_file()
    cut = load_pretrained(source, dtype="float32") if is_artifact else None
    classes = [type(cut).__name__] if cut is not None else AutoConfig.from_pretrained(source).architectures or []
    if not any(name.endswith(kind) for name in classes):
        raise ValueError(
            f"Expected a teacher with a fine-tuned head of the task's kind, {kind!r}, got {os.fspath(directory)!r} with"
            f" {classes}. Fine-tune it on the task first, for example by train.py: its `finetuned/` is a teacher."
        )
    tokenizer = _tokenizer(source)
    model = cut if cut is not None else auto_model.from_pretrained(source, dtype="float32")
    return model.eval(), tokenizer


def same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase, texts: Iterable[str]) -> bool:
    """Tell whether two tokenizers have one vocabulary, and make the same of the first hundred texts."""
    some = list(islice(texts, 100))
    return one.get_vocab() == other.get_vocab() and one(some)["input_ids"] == other(some)["input_ids"]


def _tokenizer(source: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
    files = [*tokenizer.vocab_files_names.values()]
    if not any((source / file).is_file() for file in files):  # transformers makes an empty one
        raise ValueError(
            f"Expected a tokenizer beside the teacher in {os.fspath(source)!r}, one of {files}, got none. Save the"
            " teacher's own there: `tokenizer.save_pretrained(DIR)`."
        )
    return tokenizer
