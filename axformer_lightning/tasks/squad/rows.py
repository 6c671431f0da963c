"""Questions with their contexts from SQuAD's official JSON, and a check of where the answers are."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

logger = logging.getLogger(__name__)

FEATURES = Features(
    {
        "id": Value("string"),
        "title": Value("string"),
        "context": Value("string"),
        "question": Value("string"),
        "answers": {"text": List(Value("string")), "answer_start": List(Value("int32"))},
    }
)
NOWHERE = -1  # `answer_start` of an answer that is not in its context
_NAMES = {dict: "an object", list: "a list", str: "a string", int: "a whole number", bool: "true or false"}


class _LayoutError(ValueError):
    """Says what is wrong, and at which path inside the JSON."""


def read_squad(path: str | os.PathLike[str], with_impossible: bool) -> Dataset:
    """Return the questions of an official file, with the columns of the dataset on the hub.

    Args:
        path: JSON of SQuAD v1.1 or v2.0.
        with_impossible: whether questions without an answer belong to the task, as in v2.0.

    Returns:
        One row per question: `id`, `title`, `context`, `question` and `answers`, a dict of the lists `text` and
        `answer_start`. The positions are checked by `align_answers`.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it is not JSON (line and column are named) or not SQuAD (the path inside is named), two questions
            share an id, or a question is impossible although ``with_impossible`` is False.

    Example:
        >>> import tempfile
        >>> answer = {"text": "The otter", "answer_start": 0}
        >>> qas = [{"id": "1", "question": "Who swims?", "answers": [answer]}]
        >>> tree = {"version": "1.1", "data": [{"paragraphs": [{"context": "The otter swims.", "qas": qas}]}]}
        >>> with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        ...     print(json.dumps(tree), file=file, flush=True)
        ...     read_squad(file.name, with_impossible=False)[0]["answers"]
        {'text': ['The otter'], 'answer_start': [0]}
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the official file {str(path)!r}, found none. Point `data_dir` or SQUAD_DIR to the directory that"
            " holds it, or leave both out to load from the hub."
        )
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"Expected JSON in {str(path)!r}, got something else at line {error.lineno}, column {error.colno}:"
            f" {error.msg}. Download the file again."
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected JSON in UTF-8 in {str(path)!r}: {error}. Download the file again.") from error
    try:
        rows = list(_questions(tree, with_impossible))
    except _LayoutError as error:
        raise ValueError(f"{str(path)!r} does not have the layout of the task. {error}") from None
    return Dataset.from_list(rows, features=FEATURES)


def align_answers(rows: Dataset, *, drop: bool) -> Dataset:
    """Return ``rows`` with every answer at a position where its context has it; warn once how many were not.

    An answer that is not at its `answer_start` moves to the nearest position where the context has it. An answer that
    is nowhere in the context can be compared with but not learned: with ``drop`` it is removed, and so is a question
    with no answer left; without, it stays with an `answer_start` of -1.

    Args:
        rows: from `read_squad` or from the hub.
        drop: True for rows to train on or to search with, False for rows that are only reported.

    Example:
        >>> row = {"id": "1", "title": "", "context": "An otter swims.", "question": "Who?"}
        >>> rows = Dataset.from_list([row | {"answers": {"text": ["otter"], "answer_start": [2]}}])
        >>> align_answers(rows, drop=True)[0]["answers"]
        {'text': ['otter'], 'answer_start': [3]}
    """
    ids, kept, aligned, num_lost = [], [], [], 0
    for i, (id_, context, answers) in enumerate(zip(rows["id"], rows["context"], rows["answers"], strict=True)):
        pairs = list(zip(answers["text"], answers["answer_start"], strict=True))
        placed = [(text, _place(context, text, start)) for text, start in pairs]
        if placed != pairs or any(start == NOWHERE for _, start in pairs):
            ids.append(id_)
            num_lost += not any(start != NOWHERE for _, start in placed)
        if drop:
            placed = [(text, start) for text, start in placed if start != NOWHERE]
        if placed or not pairs:
            kept.append(i)
            aligned.append({"text": [text for text, _ in placed], "answer_start": [start for _, start in placed]})
    if not ids:
        return rows
    logger.warning(
        "Expected every answer in its context at `answer_start`, got %d of %d questions where one is not (ids %s). The"
        " nearest occurrence is taken; %d have none and %s.",
        len(ids),
        len(rows),
        ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else ""),
        num_lost,
        "are removed" if drop else "stay, as the metrics need only the texts",
    )
    columns = {name: rows.select(kept)[name][:] for name in FEATURES if name in rows.column_names}
    features = Features({name: FEATURES[name] for name in columns})
    return Dataset.from_dict({**columns, "answers": aligned}, features=features)


def _place(context: str, text: str, start: int) -> int:
    """Return the position of ``text`` in ``context`` that is nearest to ``start``."""
    if not text:
        return NOWHERE
    if start >= 0 and context.startswith(text, start):
        return start
    after, before = context.find(text, max(0, start)), context.rfind(text, 0, max(0, start) + len(text))
    return min((place for place in (before, after) if place >= 0), key=lambda p: abs(p - start), default=NOWHERE)


def _questions(tree: Any, with_impossible: bool) -> Iterator[dict[str, Any]]:
    seen: dict[str, str] = {}
    for article, at in _items(tree, "data", ""):
        title = _field(article, "title", str, at, "")
        for paragraph, at_paragraph in _items(article, "paragraphs", at):
            context = _field(paragraph, "context", str, at_paragraph)
            for question, at_question in _items(paragraph, "qas", at_paragraph):
                row = {"title": title, "context": context, **_question(question, at_question, with_impossible)}
                if row["id"] in seen:
                    raise _LayoutError(
                        f"Expected a unique id at {at_question}.id, got {row['id']!r} as at {seen[row['id']]}.id:"
                        " rename or remove one."
                    )
                seen[row["id"]] = at_question
                yield row


def _question(question: Any, at: str, with_impossible: bool) -> dict[str, Any]:
    answers = [
        (_field(answer, "text", str, where), _field(answer, "answer_start", int, where))
        for answer, where in _items(question, "answers", at)
    ]
    impossible = _field(question, "is_impossible", bool, at, not answers)
    if impossible and not with_impossible:
        raise _LayoutError(
            f"Expected an answer to every question, as in SQuAD v1.1, got an impossible question at {at}: use"
            " `task=squad_v2`, or the files of v1.1."
        )
    if impossible == bool(answers):
        raise _LayoutError(
            f"Expected answers if and only if `is_impossible` is false, got {len(answers)} and {impossible} at {at}:"
            " correct one of them."
        )
    return {
        "id": _field(question, "id", str, at),
        "question": _field(question, "question", str, at),
        "answers": {"text": [text for text, _ in answers], "answer_start": [start for _, start in answers]},
    }


def _items(holder: Any, name: str, at: str) -> Iterator[tuple[Any, str]]:
    """Yield the items of the list ``holder[name]``, each with its path."""
    where = f"{at}.{name}" if at else name
    for i, item in enumerate(_field(holder, name, list, at)):
        yield item, f"{where}[{i}]"


def _field(holder: Any, name: str, kind: type, at: str, default: Any = None) -> Any:
    where = f"{at}.{name}" if at else name
    if not isinstance(holder, dict):
        raise _LayoutError(f"Expected an object with {name!r} at {at or 'the top'}, got {_kind(holder)}: {_ADVICE}")
    if name not in holder and default is not None:
        return default
    value = holder.get(name)
    if type(value) is not kind:
        got = _kind(value) if name in holder else f"only {sorted(holder)}"
        raise _LayoutError(f"Expected {_NAMES[kind]} at {where}, got {got}: {_ADVICE}")
    return value


def _kind(value: Any) -> str:
    return _NAMES.get(type(value), "null" if value is None else type(value).__name__)


_ADVICE = "use the official file, or bring yours into its layout."
