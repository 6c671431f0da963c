"""Settings of the wrong type, and paths that lead to no file, refused where they are given."""

import os
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

WORDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
NUMBERS: dict[type, type] = {int: Integral, float: Real}


def check_type(name: str, value: Any, kind: Any) -> None:
    """Refuse a setting that is not of its type: numbers, booleans and texts, and None where it may be.

    Args:
        name: of the setting.
        value: what it was given.
        kind: ``int``, ``float``, ``bool`` or ``str``, or a union of such and None; anything else is not checked.

    Raises:
        ValueError: naming the setting.

    Example:
        >>> check_type("rounds", 1.5, int)
        Traceback (most recent call last):
        ValueError: Expected `rounds` to be a whole number, got 1.5.
    """
    kinds = get_args(kind) if get_origin(kind) is UnionType else (kind,)
    known = [one for one in kinds if one in WORDS]
    if len(known) != len([one for one in kinds if one is not type(None)]) or (value is None and type(None) in kinds):
        return
    if not any(isinstance(value, NUMBERS.get(one, one)) and isinstance(value, bool) <= (one is bool) for one in known):
        words = " or ".join([*(WORDS[one] for one in known), *["None"] * (type(None) in kinds)])
        raise ValueError(f"Expected `{name}` to be {words}, got {value!r}.")


def check_at_least(name: str, value: Any, least: int, why: str = "") -> None:
    """Refuse a setting that is no whole number of at least ``least``; ``why`` is added to the message.

    Example:
        >>> check_at_least("n_trials", 0, 1)
        Traceback (most recent call last):
        ValueError: Expected `n_trials` to be a whole number of at least 1, got 0.
    """
    if type(value) is not int or value < least:
        raise ValueError(f"Expected `{name}` to be a whole number of at least {least}, got {value!r}.{why}")


def check_is_file(name: str, path: str | os.PathLike[str], content: str) -> None:
    """Refuse a setting that may be left out, and is to be the path of a file with that content, where there is none.

    Example:
        >>> check_is_file("corpus", "nowhere", "texts")
        Traceback (most recent call last):
        FileNotFoundError: Expected `corpus` to be a file with texts, got 'nowhere', which is not there. Give the path
        of the file, or leave out `corpus`.
    """
    if not Path(path).is_file():
        found = "a directory" if Path(path).is_dir() else "not there"
        raise FileNotFoundError(
            f"Expected `{name}` to be a file with {content}, got {os.fspath(path)!r}, which is {found}. Give the path"
            f" of the file, or leave out `{name}`."
        )


def check_types(settings: Any) -> None:
    """Refuse a dataclass of which a field is not of its type, as :func:`check_type` does."""
    hints = get_type_hints(type(settings))
    for field in fields(settings):
        check_type(field.name, getattr(settings, field.name), hints[field.name])
