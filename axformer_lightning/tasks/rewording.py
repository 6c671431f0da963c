"""Copies of texts with other words in them, for a teacher to answer."""

import random
import re
from numbers import Real
from typing import Any

from datasets import Dataset

from axformer_lightning.tasks.rows import text_columns

_WORD = re.compile(r"[\w'-]+")


def reworded(rows: Dataset, *, copies: int, noise: float, seed: int) -> Dataset:
    """Return rows again, with other words in the place of some of their own.

    A teacher knows the texts that it was trained on by heart: of those it says little but their labels. Of a text
    that nobody has written it says what it would say of any other. A word that gives way does so wherever it stands
    in a row, to the same word: what two texts of a pair have in common stays common to them.

    Args:
        rows: of a task, with one text or two.
        copies: how often each row is there.
        noise: the probability of each word of a row, in upper or lower case, to give way to one drawn from all words
            of the rows, where frequent ones are drawn more often. Signs between words stay, and so does the label.
        seed: of the draws.

    Returns:
        ``copies`` times as many rows with the same columns, in the order of ``rows``, over and over.

    Raises:
        ValueError: if ``copies`` is below 1, ``noise`` is not above 0 and at most 1, or rows have other texts.

    Source: in the manner of arXiv 1903.12136 (section 3.2), which draws part of its words by their part of speech.

    Example:
        >>> rows = Dataset.from_dict({"text_a": ["a fine film", "a bore"], "label": [1, 0]})
        >>> copied = reworded(rows, copies=2, noise=0.5, seed=0)
        >>> [len(text.split()) for text in copied["text_a"]], copied["label"][:]
        ([3, 2, 3, 2], [1, 0, 1, 0])
    """
    if copies < 1:
        raise ValueError(f"Expected at least 1 copy, got {copies}.")
    check_noise("noise", noise)
    columns = text_columns(rows)
    if "text_a" not in columns:
        raise ValueError(f"Expected rows with the column 'text_a', got {rows.column_names}.")
    texts = {column: rows[column][:] for column in columns}
    words = [word for column in columns for text in texts[column] for word in _WORD.findall(text)]
    draw = random.Random(seed)

    def again(*pair: str) -> list[str]:
        others: dict[str, str | None] = {}

        def other(match: re.Match[str]) -> str:
            word = match[0].lower()
            if word not in others:
                others[word] = draw.choice(words) if draw.random() < noise else None
            return others[word] or match[0]

        return [_WORD.sub(other, text) for text in pair]

    copied = {name: rows[name][:] * copies for name in rows.column_names}
    pairs = [again(*pair) for _ in range(copies) for pair in zip(*texts.values(), strict=True)]
    copied.update(zip(columns, map(list, zip(*pairs, strict=True)), strict=False))
    return Dataset.from_dict(copied, features=rows.features)


def check_noise(name: str, noise: Any, why: str = "") -> None:
    """Refuse what is no share of words that can give way; ``why`` is added to the message.

    Example:
        >>> check_noise("noise", 30)
        Traceback (most recent call last):
        ValueError: Expected `noise`, the share of words that give way in a copy, above 0 and up to 1, got 30.
    """
    if not isinstance(noise, Real) or noise is True or not 0 < float(noise) <= 1:
        raise ValueError(
            f"Expected `{name}`, the share of words that give way in a copy, above 0 and up to 1, got {noise!r}.{why}"
        )
