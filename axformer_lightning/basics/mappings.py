"""Nested mappings: as flat ones, and as JSON takes them."""

import math
from collections.abc import Mapping
from typing import Any


def finite(value: Any) -> Any:
    """Return plain values with None in the place of NaN and infinities, which JSON has no word for.

    Args:
        value: of dicts, lists and tuples and what JSON knows.

    Example:
        >>> finite({"loss": float("nan"), "widths": [1.0, float("inf")]})
        {'loss': None, 'widths': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number_of(value: float | None) -> float:
    """Return a number as :func:`finite` was given it, or NaN for all that are not finite.

    Example:
        >>> number_of(0.5), number_of(None)
        (0.5, nan)
    """
    return math.nan if value is None else float(value)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted names.

    Args:
        values: holds mappings and other values.
        prefix: of all names.

    Example:
        >>> flattened({"seed": 0, "data": {"batch_size": 32, "seeds": [1, 2]}})
        {'seed': 0, 'data.batch_size': 32, 'data.seeds': [1, 2]}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flattened(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
