"""What options of the command line read: numbers, ratios, shapes and names, or what argparse says instead."""

import argparse
import math
from contextlib import suppress
from functools import partial


def number(text: str, least: int = 1) -> int:
    """Read a whole number that is not below ``least``."""
    with suppress(ValueError):
        if int(text) >= least:
            return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")


count = partial(number, least=0)


def amount(text: str) -> float:
    """Read a finite number of at least 0."""
    with suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")


def numbers(text: str) -> list[int]:
    """Read whole numbers with commas between them, each at least 1."""
    return [number(part) for part in text.split(",")]


def ratios(text: str) -> list[float]:
    """Read numbers above 1 with commas between them."""
    with suppress(ValueError):
        if all(1 < float(part) < math.inf for part in text.split(",")):
            return [float(part) for part in text.split(",")]
    raise argparse.ArgumentTypeError(f"expected numbers above 1, such as 2,3.2, got {text!r}")


def shapes(text: str) -> list[tuple[int, int]]:
    """Read batch sizes and lengths, such as 1x128,8x128."""
    with suppress(ValueError):
        found = [tuple(map(number, part.split("x"))) for part in text.split(",")]
        return [(batch_size, length) for batch_size, length in found]
    raise argparse.ArgumentTypeError(f"expected batch size x tokens, such as 1x128,8x128, got {text!r}")


def names(text: str) -> list[str]:
    """Read words with commas between them."""
    return text.split(",")
