"""Nested mappings as flat ones."""

from collections.abc import Mapping
from typing import Any


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
