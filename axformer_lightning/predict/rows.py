"""Rows to predict: from JSON lines or the command line, checked."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from axformer_lightning.basics.reading import read_json

Row = Mapping[str, Any]
TEXTS = (("text",), ("text", "text_pair"), ("question", "context"))  # the texts of a row, in the model's order
_NAMES = {name for names in TEXTS for name in names}


def texts_of(row: Row, where: str) -> tuple[str, ...]:
    """Return the one or two texts of a row.

    Raises:
        ValueError: if the row has others than `text`, `text` and `text_pair`, or `question` and `context`, or one
            is no text or not UTF-8.

    Example:
        >>> texts_of({"id": 3, "text": "It rained."}, "row 1")
        ('It rained.',)
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"Expected {where} to be a JSON object, got {type(row).__name__}.")
    given = _NAMES & row.keys()
    for names in TEXTS:
        if given == {*names}:
            return tuple(_text(row[name], name, where) for name in names)
    raise ValueError(
        f"Expected {where} to have `text`, `text` and `text_pair`, or `question` and `context`, got {sorted(row)}."
    )


def rest_of(row: Row) -> dict[str, Any]:
    """Return what is in a row beside its texts, such as an id.

    Example:
        >>> rest_of({"id": 3, "text": "It rained."})
        {'id': 3}
    """
    return {name: value for name, value in row.items() if name not in _NAMES}


def read_rows(lines: Iterable[bytes], name: str) -> Iterator[Row]:
    """Yield the rows of JSON lines; empty lines are skipped.

    Raises:
        ValueError: if a line is not UTF-8, not JSON or no row; the line is named.

    Example:
        >>> list(read_rows([b'{"text": "It rained."}'], "a.jsonl"))
        [{'text': 'It rained.'}]
    """
    for number, line in enumerate(lines, 1):
        where = f"line {number} of {name}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            row: Any = read_json(text) if text else None
        except UnicodeDecodeError as error:
            raise ValueError(f"Expected UTF-8 in {where}, got other bytes: {error}. Save the file as UTF-8.") from None
        except ValueError as error:
            raise ValueError(f"Expected JSON in {where}, got something else: {error}.") from None
        if text:
            texts_of(row, where)
            yield row


def _text(value: object, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"Expected `{name}` of {where} to be a text, got {type(value).__name__}.")
    try:
        value.encode()
    except UnicodeEncodeError:  # what Python makes of other bytes on a command line, or half a character in JSON
        raise ValueError(f"Expected `{name}` of {where} in UTF-8, got other bytes. Convert it to UTF-8.") from None
    return value
