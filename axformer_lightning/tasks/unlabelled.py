"""More texts of a task that nobody has labelled: a teacher says what they are."""

import logging
import os
from collections.abc import Iterable

from datasets import Dataset

from axformer_lightning.basics import check_is_file
from axformer_lightning.tasks.overlap import without_rows_of
from axformer_lightning.tasks.split import apart_from
from axformer_lightning.tasks.task import UNLABELLED, Task
from axformer_lightning.tasks.tsv import read_tsv

SETTING = "distillation.texts"
logger = logging.getLogger(__name__)


def read_unlabelled(
    path: str | os.PathLike[str], task: Task, train: Dataset, held_out: Iterable[Dataset] = ()
) -> Dataset:
    """Return the rows of a file, without their labels, that neither train nor decide nor report.

    A row that is held out would be learned if a teacher answered it. So what the search set shares with no training row
    (`Task.apart`) it shares with none of these either, and dev likewise.

    Args:
        path: tab-separated, with a line of names as in the official test files of the task; other columns are not read.
        task: names its columns.
        train: rows that train anyway.
        held_out: the search set and the dev sets.

    Returns:
        Rows as of ``train``, with -1 for a label.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the task has no such texts, a column or a field is missing, or no row is left.
    """
    check_texts(path, task)
    read = [row | {"label": UNLABELLED} for row in read_tsv(path, task, labelled=False)]
    rows = Dataset.from_dict({name: [row[name] for row in read] for name in train.features}, features=train.features)
    kept = apart_from(without_rows_of(rows, [train]), held_out, task.apart)
    if not len(kept):
        raise ValueError(
            f"Expected texts in `{SETTING}` that are not in train, search or dev set, got {len(rows)} that are. Give"
            " others, or leave it out."
        )
    if len(kept) < len(rows):
        also = len(rows) - len(kept)
        logger.info("%d of %d texts of %r are in train, search or dev set.", also, len(rows), os.fspath(path))
    return kept


def check_texts(path: str | os.PathLike[str], task: Task) -> None:
    """Raise unless there is a file, and the task has texts that it may hold.

    Raises:
        FileNotFoundError: as :func:`read_unlabelled`.
        ValueError: likewise.
    """
    if not task.text_columns:
        raise ValueError(
            f"Expected a task of GLUE with `{SETTING}`, got one of {task.kind.replace('_', ' ')} that has no files of"
            " single texts or pairs. Leave it out."
        )
    check_is_file(SETTING, path, f"the columns {list(task.text_columns)}")
