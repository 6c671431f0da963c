"""Texts and labels of a task, from its official files, from the hub, or made on the spot."""

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import datasets
from datasets import ClassLabel, Dataset, Features, Value
from huggingface_hub.errors import HfHubHTTPError

from axformer_lightning.tasks.demo import demo_pairs
from axformer_lightning.tasks.table import TASKS, Task

DEMO_TRAIN, DEMO_DEV = 3000, 500


class Rows(NamedTuple):
    """The two labelled parts of a task, columns `text_a`, `text_b` (where there are two texts) and `label`.

    Args:
        train: for training and for the search.
        dev: for the report only.
    """

    train: Dataset
    dev: Dataset


def load_rows(name: str, data_dir: str | os.PathLike[str] | None = None) -> Rows:
    """Return the rows of a task.

    Args:
        name: key of :data:`~axformer_lightning.tasks.TASKS`.
        data_dir: directory with the official files in one folder per task; by default the environment variable
            ``GLUE_DIR``, else the hub. The demo needs neither.

    Raises:
        ValueError: if the task is unknown, or a file is not as the official ones are (file and line are named).
        FileNotFoundError: if a file is absent.
        ConnectionError: if the hub is asked and does not answer.
    """
    if name not in TASKS:
        raise ValueError(f"Expected a task of {sorted(TASKS)}, got {name!r}.")
    task = TASKS[name]
    if task.folder is None:
        return Rows(_made(task, DEMO_TRAIN, seed=0), _made(task, DEMO_DEV, seed=1))
    directory = data_dir or os.environ.get("GLUE_DIR")
    if directory:
        folder = Path(directory) / task.folder
        return Rows(*(_dataset(task, read_tsv(folder / f"{part}.tsv", task)) for part in ("train", "dev")))
    return _from_hub(name, task)


def read_tsv(path: str | os.PathLike[str], task: Task) -> Iterator[dict[str, str | int]]:
    """Yield the rows of an official GLUE file: tab-separated, never quoted, perhaps with a byte-order mark.

    Args:
        path: the file.
        task: names its columns and labels.

    Raises:
        FileNotFoundError: if the file is absent.
        ValueError: if a column is missing, a row has too few fields, or a label is none of the task's.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"Expected the official file {os.fspath(path)!r}, found none. Point `data_dir` or GLUE_DIR to the directory"
            f" that holds the folder {task.folder!r}, or leave both out to load from the hub."
        )
    numbers = {str(number): number for number in range(len(task.labels))}
    with Path(path).open(encoding="utf-8-sig", newline="\n") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = next(lines, [])
        missing = [column for column in (*task.text_columns, task.label_column) if column not in header]
        if missing:
            raise ValueError(f"Expected the columns {missing} in {os.fspath(path)!r}, got {header}.")
        texts = [header.index(column) for column in task.text_columns]
        label = header.index(task.label_column)
        for fields in lines:
            where = f"{os.fspath(path)!r}, line {lines.line_num}"
            if len(fields) < len(header):
                raise ValueError(f"Expected {len(header)} tab-separated fields in {where}, got {len(fields)}.")
            if fields[label] not in numbers:
                raise ValueError(f"Expected a label of {sorted(numbers)} in {where}, got {fields[label]!r}.")
            yield _row([fields[column] for column in texts], numbers[fields[label]])


def _row(texts: list[str], label: int) -> dict[str, str | int]:
    return {**{f"text_{letter}": text for letter, text in zip("ab", texts, strict=False)}, "label": label}


def _dataset(task: Task, rows: Iterator[dict[str, str | int]]) -> Dataset:
    columns = [f"text_{letter}" for letter, _ in zip("ab", task.text_columns or "ab", strict=False)]
    features = Features(
        {**{column: Value("string") for column in columns}, "label": ClassLabel(names=list(task.labels))}
    )
    listed = list(rows)
    return Dataset.from_dict({column: [row[column] for row in listed] for column in features}, features=features)


def _made(task: Task, num_pairs: int, seed: int) -> Dataset:
    return _dataset(task, (_row([a, b], label) for a, b, label in demo_pairs(num_pairs, seed=seed)))


def _from_hub(name: str, task: Task) -> Rows:
    assert task.hub is not None
    try:
        parts: Mapping[str, Dataset] = datasets.load_dataset(*task.hub)
    except (OSError, HfHubHTTPError, datasets.exceptions.DatasetsError) as error:
        raise ConnectionError(
            f"Expected the hub to give the dataset {'/'.join(task.hub)!r}: {error}. Without the hub, pass"
            f" `data_dir=DIR` (or set GLUE_DIR) with the official files DIR/{task.folder}/train.tsv and dev.tsv and use"
            " `model=minilm`, or run the demo: `python train.py`."
        ) from error
    train, dev = (
        _dataset(task, (_row([row[column] for column in task.hub_columns], row["label"]) for row in parts[part]))
        for part in ("train", "validation")
    )
    return Rows(train, dev)
