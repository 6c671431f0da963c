"""Values of untrusted JSON: each of the expected type, or a ``ValueError`` that names the entry."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def names_of(cls: Any) -> set[str]:
    """Return the names of the fields of a dataclass."""
    return {field.name for field in fields(cls)}


def read_fields(data: object, where: str, names: set[str]) -> Mapping[str, Any]:
    """Return a JSON object that has exactly the fields ``names``."""
    if not isinstance(data, Mapping):
        raise ValueError(f"Expected {where} to be a JSON object, got {type(data).__name__}.")
    if unknown := sorted(set(data) - names):
        raise ValueError(f"Expected {where} to have the fields {sorted(names)}, got unknown ones: {unknown}.")
    if missing := sorted(names - set(data)):
        raise ValueError(f"Expected {where} to have the fields {sorted(names)}, these are missing: {missing}.")
    return data


def read_list(value: object, where: str) -> Any:
    """Return a JSON array."""
    return read_typed(value, list, where)


def read_typed(value: Any, kind: type, where: str) -> Any:
    """Return a value of exactly that JSON type."""
    if not isinstance(value, kind):
        raise ValueError(f"Expected {where} to be of type {kind.__name__}, got {value!r}.")
    return value


def read_count(value: Any, where: str, least: int = 0) -> int:
    """Return a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"Expected {where} to hold whole numbers of at least {least}, got {value!r}.")
    return value


def read_number(value: Any, where: str) -> float:
    """Return a number."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"Expected {where} to be a finite number, got {reprlib.repr(value)}.")
    return number


def refuse_constant(name: str) -> None:
    """Refuse NaN and infinities, which are not JSON."""
    raise ValueError(f"{name} is not a number of JSON")
