"""The words of texts, and which texts are phrases of others."""

from collections.abc import Iterable, Mapping, Set

Words = tuple[str, ...]


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
    wholes: dict[Words, set[Words]] = {words: set() for words in texts}
    lengths = sorted({len(words) for words in wholes} - {0})
    for words in sorted(wholes, key=len, reverse=True):
        if not wholes[words]:  # it stands in no longer one
            wholes[words].add(words)
            for part in _runs(words, lengths):
                if part in wholes:
                    wholes[part].add(words)
    return wholes


def _runs(words: Words, lengths: Iterable[int]) -> Iterable[Words]:
    """Yield all words that stand in a row in a text, in the given lengths, shorter than the text itself."""
    for length in lengths:
        if length >= len(words):
            return
        for start in range(len(words) - length + 1):
            yield words[start : start + length]
