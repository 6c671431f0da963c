"""Values of untrusted JSON: each of the expected type, or a ``ValueError`` that names the entry.

Values are shown shortened: one may be a megabyte long, or nested too deep for ``repr``.
"""

import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields
from reprlib import repr as short
from typing import Any


def read_json(text: str) -> Any:
    """Return the value of a JSON text, read strictly: Python's reader accepts more than JSON.

    Raises:
        ValueError: if the text is not JSON, is nested too deep, holds NaN or infinities, or an object has a key twice.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object_of)
    except RecursionError:
        raise ValueError("nested too deep") from None


def names_of(cls: Any) -> set[str]:
    """Return the names of the fields of a dataclass."""
    return {field.name for field in fields(cls)}


def read_fields(
    data: object, where: str, names: set[str], optional: AbstractSet[str] = frozenset()
) -> Mapping[str, Any]:
    """Return a JSON object that has exactly the fields ``names``; those in ``optional`` may be missing."""
    if not isinstance(data, Mapping):
        raise ValueError(f"Expected {where} to be a JSON object, got {type(data).__name__}.")
    if unknown := sorted(set(data) - names, key=str):
        raise ValueError(f"Expected {where} to have the fields {sorted(names)}, got unknown ones: {short(unknown)}.")
    if missing := sorted(names - optional - set(data)):
        raise ValueError(f"Expected {where} to have the fields {sorted(names)}, these are missing: {missing}.")
    return data


def read_list(value: object, where: str) -> Any:
    """Return a JSON array."""
    return read_typed(value, list, where)


def read_typed(value: Any, kind: type, where: str) -> Any:
    """Return a value of exactly that JSON type."""
    if not isinstance(value, kind):
        raise ValueError(f"Expected {where} to be of type {kind.__name__}, got {short(value)}.")
    return value


def read_count(value: Any, where: str, least: int = 0) -> int:
    """Return a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"Expected {where} to hold whole numbers of at least {least}, got {short(value)}.")
    return value


def read_number(value: Any, where: str) -> float:
    """Return a number."""
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"Expected {where} to be a finite number, got {short(value)}.")
    return number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _object_of(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a key twice: JSON readers differ in which value they take."""
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            raise ValueError(f"a JSON object has the key {short(key)} twice")
        data[key] = value
    return data
