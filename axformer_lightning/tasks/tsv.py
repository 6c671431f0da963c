"""The official files of GLUE: tab-separated, without quoting, with different columns for each task."""

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from axformer_lightning.tasks.task import Task

logger = logging.getLogger(__name__)

Row = dict[str, str | int | float]  # text_a; text_b if there are two texts; label if there is one


def read_tsv(path: str | os.PathLike[str], task: Task, *, labelled: bool = True) -> Iterator[Row]:
    """Yield the rows of an official GLUE file, which may begin with a byte-order mark.

    Args:
        path: the file.
        task: names its columns and labels.
        labelled: whether it is a training or dev set, not a test set.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if a column is missing, there is no row, a row has too few or too many fields (unless the task skips
            such rows), or a label is not one of the task's.
    """
    where = os.fspath(path)
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"Expected the official file {where!r}, found none. Point `data_dir` or GLUE_DIR to the directory"
            f" that holds the folder {task.folder!r}, or leave both out to load from the hub."
        )
    ragged, num_rows = [], 0
    # Only "\n" ends a line: other line separators occur within the texts.
    with Path(path).open(encoding="utf-8-sig", newline="\n") as file:
        lines = enumerate((line.rstrip("\r\n").split("\t") for line in _lines(file, where)), 1)
        header = list(task.header) if labelled and task.header else next(lines, (0, []))[1]
        wanted = (*task.text_columns, task.label_column) if labelled else task.text_columns
        missing = [column for column in wanted if column not in header]
        if missing:
            raise ValueError(f"Expected the columns {missing} in {where!r}, got {header}.")
        columns = [header.index(column) for column in wanted]
        for number, fields in lines:
            if len(fields) != len(header) or fields == [""]:
                if not (labelled and task.skips_ragged):
                    got = "a blank line" if fields == [""] else len(fields)
                    raise ValueError(
                        f"Expected {len(header)} tab-separated fields in {where!r}, line {number}, got {got}. Give each"
                        " row a line of its own: no blank lines between rows, no tabs or line breaks within texts."
                    )
                ragged.append(number)
                continue
            num_rows += 1
            *texts, last = (fields[column] for column in columns)
            if labelled:
                yield row(texts, _label(last, task, f"{where!r}, line {number}"))
            else:
                yield row([*texts, last])
    if num_rows == 0:
        raise ValueError(f"Expected at least one row in {where!r}, got none. Download the file again.")
    if ragged:
        logger.warning(
            "Skipped %d lines of %r with too few or too many fields, the first ones are %s: the official file has line"
            " breaks within texts.",
            len(ragged),
            where,
            ragged[:5],
        )


def _lines(file: Iterable[str], where: str) -> Iterator[str]:
    try:
        yield from file
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected UTF-8 text in {where!r}, got other bytes: {error}. Save the file as UTF-8."
        ) from error


def row(texts: Iterable[str], label: float | None = None) -> Row:
    """Return one row; without a label it belongs to a test set.

    Example:
        >>> row(["It rained.", "The sun shone."], 0)
        {'text_a': 'It rained.', 'text_b': 'The sun shone.', 'label': 0}
    """
    named: Row = {f"text_{letter}": text for letter, text in zip("ab", texts, strict=False)}
    return named if label is None else {**named, "label": label}


def _label(text: str, task: Task, where: str) -> float:
    if task.kind == "regression":
        return _score(text, task.bounds, where)
    names = task.labels if task.named_labels else [str(number) for number in range(len(task.labels))]
    if text not in names:
        raise ValueError(f"Expected a label of {sorted(names)} in {where}, got {text!r}.")
    return names.index(text)


def _score(text: str, bounds: tuple[float, float], where: str) -> float:
    least, largest = bounds
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not least <= score <= largest:
        raise ValueError(f"Expected a score from {least:g} to {largest:g} in {where}, got {text!r}.")
    return score
