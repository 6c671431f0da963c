"""Rows of a task with which something is measured: the first, random ones, or those that a file names."""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from axformer_lightning.scoring import Batch, batches_by_length
from axformer_lightning.tasks import TASKS, Rows, load_rows, tokenized


def labelled_rows(task: str, data_dir: str | None) -> Rows:
    """Return the rows of a task that has one label for each sample.

    Args:
        task: name of the task.
        data_dir: directory with the official files; None looks where :func:`~axformer_lightning.tasks.load_rows` does.

    Raises:
        ValueError: if the task is unknown or answers questions.
    """
    if task in TASKS and TASKS[task].kind == "question_answering":
        some = [name for name, known in TASKS.items() if known.kind != "question_answering"]
        raise ValueError(f"Expected a task with a label for each sample, one of {some}, got {task!r}.")
    return load_rows(task, data_dir)


def first_rows(num_samples: int, rows: Dataset, *, at_random: bool = False) -> Iterable[int]:
    """Return the numbers of the first rows; or of random ones, repeated if there are too few.

    Args:
        num_samples: how many.
        rows: of which.
        at_random: whether they are drawn, with the same seed every time.

    Raises:
        ValueError: if there are too few rows.
    """
    if at_random:
        return list(islice(_shuffled(len(rows)), num_samples))
    if num_samples > len(rows):
        raise ValueError(
            f"Expected at most {len(rows)} samples, the rows of train, got {num_samples}. Pass fewer, or --random to"
            " draw rows at random and repeat them."
        )
    return range(num_samples)


def rows_in(path_and_key: str, num_rows: int) -> list[int]:
    """Return the numbers of rows in a JSON file: a list, or one under a key.

    Args:
        path_and_key: `FILE.json`, or `FILE.json:KEY`.
        num_rows: rows that there are.

    Raises:
        ValueError: if there is no list of row numbers, or one is too high.
    """
    path, key = Path(path_and_key), None
    if not path.exists() and ":" in path_and_key:
        name, _, key = path_and_key.rpartition(":")
        path = Path(name)
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of UTF-8 and of JSON
        raise ValueError(f"Expected JSON in {str(path)!r}, got something else: {error}") from error
    if key is not None:
        if not isinstance(numbers, dict) or key not in numbers:
            keys = sorted(numbers) if isinstance(numbers, dict) else "no keys"
            raise ValueError(f"Expected the key {key!r} in {str(path)!r}, got {keys}.")
        numbers = numbers[key]
    if not isinstance(numbers, list) or not numbers or not all(type(number) is int for number in numbers):
        raise ValueError(
            f"Expected a list of row numbers in {path_and_key!r}, got {str(numbers)[:60]}. If it has a key, pass"
            " FILE.json:KEY."
        )
    if not 0 <= min(numbers) <= max(numbers) < num_rows:
        raise ValueError(
            f"Expected row numbers of 0 to {num_rows - 1} in {path_and_key!r}, got {min(numbers)} to {max(numbers)}."
            " Pass the numbers of this task's train, counted from 0 after the header."
        )
    return numbers


def encoded(rows: Dataset, tokenizer: PreTrainedTokenizerBase, **options: Any) -> dict[str, Tensor]:
    """Return rows as one batch with labels; ``options`` are the tokenizer's."""
    return {name: torch.tensor(values) for name, values in tokenized(rows, tokenizer, **options).items()}


def batches_of(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, batch_tokens: int
) -> Sequence[Batch]:
    """Return rows as batches by length, as :func:`~axformer_lightning.scoring.batches_by_length` makes them."""
    samples = encoded(rows, tokenizer, padding="longest", max_length=max_length)
    return batches_by_length([samples], batch_tokens, tokenizer.pad_token_id)


def _shuffled(num_rows: int) -> Iterator[int]:
    generator = random.Random(0)
    while True:
        yield from generator.sample(range(num_rows), num_rows)
