import math
from dataclasses import dataclass

import numpy
import pytest

from axformer_lightning.basics import check_type, check_types


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *[(1, int), (numpy.int64(1), int), (1, float), (0.5, float), (numpy.float32(1), float), (math.nan, float)],
        *[(True, bool), ("a", str), (None, int | None), (2, int | None), ([], list), (object(), int | list)],
    ],
)
def test_what_is_of_its_type_passes(value, kind):
    check_type("x", value, kind)


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (1.0, int, "a whole number"),
        ("3", int, "a whole number"),
        (True, int, "a whole number"),
        (math.nan, int, "a whole number"),
        ("0.5", float, "a number"),
        (None, float, "a number"),
        ("false", bool, "True or False"),
        (1, bool, "True or False"),
        (1.5, int | None, "a whole number or None"),
    ],
)
def test_what_is_not_is_named(value, kind, words):
    with pytest.raises(ValueError, match=f"Expected `x` to be {words}, got "):
        check_type("x", value, kind)


def test_every_field_of_a_dataclass_is_checked():
    @dataclass
    class Settings:
        size: int = 1
        name: str = "a"

    check_types(Settings())
    with pytest.raises(ValueError, match="`name` to be a text"):
        check_types(Settings(name=3))
