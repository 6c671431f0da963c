"""The rows of a task: from its official files, from the hub, or generated."""

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import datasets
from datasets import ClassLabel, Dataset, Features, Value
from huggingface_hub.errors import HfHubHTTPError

from axformer_lightning.tasks.demo import demo_pairs
from axformer_lightning.tasks.squad import read_squad
from axformer_lightning.tasks.table import TASKS
from axformer_lightning.tasks.task import Task
from axformer_lightning.tasks.tsv import Row, read_tsv, row

DEMO_TRAIN, DEMO_DEV = 3000, 500


class Rows(NamedTuple):
    """The parts of a task.

    Their columns are `text_a`, `text_b` (if there are two texts) and `label` (except in a test set), or those of SQuAD
    on the hub.

    Args:
        train: for training and for the search.
        dev: for the report only, by the suffix of their metrics' names.
        test: without labels, by the name of its file on the GLUE server; empty unless asked for.
    """

    train: Dataset
    dev: dict[str, Dataset]
    test: dict[str, Dataset]


def load_rows(name: str, data_dir: str | os.PathLike[str] | None = None, *, with_test: bool = False) -> Rows:
    """Return the rows of a task.

    Args:
        name: a key of :data:`~axformer_lightning.tasks.TASKS`.
        data_dir: directory with the official files, GLUE's in one folder per task; by default the environment
            variable ``GLUE_DIR`` or ``SQUAD_DIR``, else the hub. The demo needs none.
        with_test: whether to read the test set, too.

    Raises:
        ValueError: if the task is unknown or has no test set, or a file differs from the official format (file and line
            are named).
        FileNotFoundError: if a file is missing.
        ConnectionError: if the hub does not deliver the dataset.
    """
    if name not in TASKS:
        raise ValueError(f"Expected a task of {sorted(TASKS)}, got {name!r}.")
    task = TASKS[name]
    if with_test and not task.test:
        some = [other for other in TASKS if TASKS[other].test]
        raise ValueError(f"Expected a task with a test set for `predict_test=true`, one of {some}, got {name!r}.")
    if task.folder is None:
        return Rows(_made(task, DEMO_TRAIN, seed=0), {"": _made(task, DEMO_DEV, seed=1)}, {})
    directory = data_dir or os.environ.get(task.data_variable)
    load = partial(_from_file, task, Path(directory)) if directory else partial(_from_hub, task, _hub_parts(task))
    return Rows(
        load("train"),
        {suffix: load(part) for suffix, part in task.dev.items()},
        {stem: load(part) for stem, part in task.test.items()} if with_test else {},
    )


def text_columns(rows: Dataset) -> list[str]:
    """Return the names of the columns that hold texts, in the order in which models read them.

    Example:
        >>> text_columns(Dataset.from_dict({"label": [1], "text_b": ["So it did."], "text_a": ["It rained."]}))
        ['text_a', 'text_b']
    """
    return [column for column in ("text_a", "text_b", "question", "context") if column in rows.column_names]


def texts_of(rows: Dataset) -> Iterator[str]:
    """Yield all texts of a training set.

    Example:
        >>> list(texts_of(Dataset.from_dict({"text_a": ["It rained."], "label": [1]})))
        ['It rained.']
    """
    for column in text_columns(rows):
        yield from rows[column]


def _from_file(task: Task, directory: Path, part: str) -> Dataset:
    path = directory / task.file(part)
    if task.kind == "question_answering":
        return read_squad(path, with_impossible="v2" in task.version)
    labelled = _is_labelled(part)
    return _dataset(task, read_tsv(path, task, labelled=labelled), labelled)


def _from_hub(task: Task, parts: Mapping[str, Dataset], part: str) -> Dataset:
    if task.kind == "question_answering":
        return parts[part]
    labelled = _is_labelled(part)
    texts = zip(*(parts[part][column][:] for column in task.hub_columns or task.text_columns), strict=True)
    labels = parts[part]["label"]  # -1 in a test set
    return _dataset(task, (row(pair, label) for pair, label in zip(texts, labels, strict=True)), labelled)


def _hub_parts(task: Task) -> Mapping[str, Dataset]:
    try:
        parts: Mapping[str, Dataset] = datasets.load_dataset(*task.hub)
    except (OSError, ValueError, HfHubHTTPError, datasets.exceptions.DatasetsError) as error:
        raise ConnectionError(
            f"Expected the hub to deliver the dataset {'/'.join(task.hub)!r}: {error}. Without the hub, pass"
            f" `data_dir=DIR` (or set {task.data_variable}) with the official files {_official_files(task)} and use"
            " `model=minilm`, or run the demo: `python train.py`."
        ) from error
    return parts


def _official_files(task: Task) -> str:
    """List the files of a data directory.

    Example:
        >>> _official_files(TASKS["mrpc"])
        'DIR/MRPC/train.tsv, DIR/MRPC/dev.tsv'
    """
    return ", ".join(f"DIR/{task.file(part)}" for part in ("train", *task.dev.values()))


def _is_labelled(part: str) -> bool:
    return not part.startswith("test")


def _made(task: Task, num_pairs: int, seed: int) -> Dataset:
    pairs = demo_pairs(num_pairs, seed=seed)
    return _dataset(task, (row(pair[:2], pair.label) for pair in pairs), labelled=True)


def _dataset(task: Task, rows: Iterable[Row], labelled: bool) -> Dataset:
    columns = [f"text_{letter}" for letter, _ in zip("ab", task.text_columns or "ab", strict=False)]
    features = Features({column: Value("string") for column in columns})
    if labelled:
        features["label"] = Value("float32") if task.kind == "regression" else ClassLabel(names=list(task.labels))
    listed = list(rows)
    return Dataset.from_dict({column: [one[column] for one in listed] for column in features}, features=features)
