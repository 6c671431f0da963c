"""Texts that share words in a row: phrases of sentences, and the rows that are kept apart by them."""

from collections.abc import Iterable, Mapping, Set
from typing import Literal

Words = tuple[str, ...]
Apart = Literal["rows", "texts", "sentences"]


def words_of(text: str) -> Words:
    """Return the words of a text without regard to case and white space.

    Example:
        >>> words_of("It  rained. ")
        ('it', 'rained.')
    """
    return tuple(text.casefold().split())


def wholes_of(texts: Iterable[Words]) -> Mapping[Words, Set[Words]]:
    """Return for each text the whole texts that it stands in; a text is whole if it stands in no other.

    Args:
        texts: by their words.

    Example:
        >>> texts = [words_of(text) for text in ("a good film", "good film", "a film", "not a good film")]
        >>> for text, wholes in wholes_of(texts).items():
        ...     print(" ".join(text), "|", *(" ".join(whole) for whole in wholes))
        a good film | not a good film
        good film | not a good film
        a film | a film
        not a good film | not a good film
    """
    distinct = dict.fromkeys(texts)
    lengths = sorted({len(words) for words in distinct} - {0})
    inside = {part for words in distinct for part in _runs(words, lengths) if part in distinct}
    wholes: dict[Words, set[Words]] = {words: set() if words in inside else {words} for words in distinct}
    for words in distinct.keys() - inside:
        for part in _runs(words, lengths):
            if part in distinct:
                wholes[part].add(words)
    return wholes


def _runs(words: Words, lengths: Iterable[int]) -> Iterable[Words]:
    """Yield all words that stand in a row in a text, in the given lengths, shorter than the text itself."""
    for length in lengths:
        if length >= len(words):
            return
        for start in range(len(words) - length + 1):
            yield words[start : start + length]
