"""Parts of a data set, proportional and seeded: the search set is held out from training."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from random import Random

from datasets import ClassLabel, Dataset

from axformer_lightning.tasks.overlap import without_rows_of
from axformer_lightning.tasks.phrases import Words, wholes_of, words_of
from axformer_lightning.tasks.rows import text_columns
from axformer_lightning.tasks.task import Apart

NUM_ORDERS = 100  # random orders of articles that are tried to get close to the wanted size


def split_off(rows: Dataset, part: float | int, seed: int, apart: Apart = "rows") -> tuple[Dataset, Dataset]:
    """Split rows in two, the same way for the same seed.

    Both parts have the same proportions of classes, or of scores rounded to whole numbers. Questions are split by whole
    articles, as close to ``part`` as possible, since questions about one paragraph are too similar to train and to
    decide on. If there is only one article, its paragraphs are split; if only one paragraph, its questions.

    Args:
        rows: with a column `label`, or with SQuAD's columns.
        part: size of the second part, as a share or as a number of rows.
        seed: seed of the split.
        apart: what the two parts have no two of. `"rows"` may share their texts. With `"texts"`, rows that have a text
            of the second part are left out of the first. With `"sentences"`, the second part is of texts that are part
            of no other (``part`` is a share of these), and their phrases are left out of the first part unless they
            stand elsewhere, too. Texts are compared without regard to case and white space.

    Raises:
        ValueError: if ``part`` leaves nothing on one side, or too few rows for every class.

    Example:
        >>> texts = ["a good film", "good film", "film", "a dull film", "dull", "so sad"]
        >>> rows = Dataset.from_dict({"text_a": texts, "label": [5.0, 5.0, 3.0, 1.0, 1.0, 0.0]})
        >>> train, search = split_off(rows, 1, seed=1, apart="sentences")
        >>> search["text_a"][:], train["text_a"][:]
        (['a dull film'], ['a good film', 'good film', 'film', 'so sad'])
    """
    if apart != "rows":
        return _split_apart(rows, part, seed, apart)
    _check_size(rows, part)
    if "label" not in rows.column_names:
        chosen = _whole_articles(rows, part * len(rows) if isinstance(part, float) else part, seed)
    elif isinstance(rows.features["label"], ClassLabel):
        return _split_classes(rows, part, seed, "data.search_fraction")
    else:
        chosen = _proportional(_strata(rows), int(part * len(rows) if isinstance(part, float) else part), seed)
    return rows.select(sorted(set(range(len(rows))) - set(chosen))), rows.select(chosen)


def apart_from(rows: Dataset, others: Iterable[Dataset], apart: Apart) -> Dataset:
    """Return the rows that have no more in common with others than the two parts of a split may have.

    Args:
        rows: with texts.
        others: rows with texts in the same columns.
        apart: as of :func:`split_off`; with `"rows"` all texts of a row must not be those of another.

    Example:
        >>> rows = Dataset.from_dict({"text_a": ["good film", "a good film", "Dull", "so sad"]})
        >>> others = [Dataset.from_dict({"text_a": ["a good  film", "dull"]})]
        >>> apart_from(rows, others, "rows")["text_a"][:], apart_from(rows, others, "sentences")["text_a"][:]
        (['good film', 'so sad'], ['so sad'])
    """
    if apart == "rows":
        return without_rows_of(rows, others)
    texts, held_out = _texts(rows), [_texts(part) for part in others]
    held = {name: [words for part in held_out for words in part[name]] for name in texts}
    return rows.select(_unshared(texts, _wholes(texts, apart, held), held))


def _split_apart(rows: Dataset, part: float | int, seed: int, apart: Apart) -> tuple[Dataset, Dataset]:
    texts = _texts(rows)
    wholes = _wholes(texts, apart)
    whole = [i for i in range(len(rows)) if all(wholes[name][texts[name][i]] == {texts[name][i]} for name in texts)]
    search = split_off(rows.select(whole), part, seed)[1]
    kept = _unshared(texts, wholes, _texts(search))
    if not kept:
        raise ValueError(
            f"Expected rows to train on that share no text with the search set, got none: {len(search)} of {len(rows)}"
            " rows were held out. Lower `data.search_fraction`."
        )
    return rows.select(kept), search


Texts = Mapping[str, list[Words]]  # of rows, by column


def _texts(rows: Dataset) -> Texts:
    return {name: [words_of(text) for text in rows[name][:]] for name in text_columns(rows)}


def _wholes(texts: Texts, apart: Apart, more: Texts | None = None) -> dict[str, Mapping[Words, Set[Words]]]:
    """Return by column for each text those that it stands in, of these and more texts: without sentences, itself."""
    known = {name: [*texts[name], *(more or {}).get(name, ())] for name in texts}
    return {
        name: wholes_of(known[name]) if apart == "sentences" else {words: {words} for words in known[name]}
        for name in texts
    }


def _unshared(texts: Texts, wholes: Mapping[str, Mapping[Words, Set[Words]]], held_out: Texts) -> list[int]:
    """Return which rows have no text that stands in held-out texts alone."""
    held = {name: set(held_out[name]) for name in texts}
    rows = range(len(next(iter(texts.values()))))
    return [i for i in rows if not any(wholes[name][texts[name][i]] <= held[name] for name in texts)]


def draw(rows: Dataset, size: int, seed: int, setting: str = "size") -> Dataset:
    """Return ``size`` rows with the same proportions of classes, rounded scores or answerable questions as in all rows.

    Args:
        rows: with a column `label`, or with SQuAD's columns.
        size: how many rows to draw.
        seed: seed of the draw.
        setting: what the user calls the size.

    Raises:
        ValueError: if ``size`` is not below the number of rows, or too small for every class.
    """
    if not 1 <= size < len(rows):
        raise ValueError(
            f"Expected `{setting}` of 1 to {len(rows) - 1} of {len(rows)} samples, got {size}."
            f" {'Raise' if size < 1 else 'Lower'} it."
        )
    if isinstance(rows.features.get("label"), ClassLabel):
        return _split_classes(rows, size, seed, setting)[1]
    return rows.select(_proportional(_strata(rows), size, seed))


def at_most(rows: Dataset, size: int | None, seed: int, setting: str) -> Dataset:
    """Return ``rows``, or ``size`` of them, drawn as by :func:`draw`, if there are more."""
    return rows if size is None or size >= len(rows) else draw(rows, int(size), seed, setting)


def _check_size(rows: Dataset, part: float | int) -> None:
    size = part * len(rows) if isinstance(part, float) else part
    if not 1 <= size < len(rows):
        raise ValueError(
            f"Expected a search set of 1 to {len(rows) - 1} of {len(rows)} samples, got {part!r}: set"
            " `data.search_fraction` between 0 and 1."
        )


def _split_classes(rows: Dataset, part: float | int, seed: int, setting: str) -> tuple[Dataset, Dataset]:
    try:
        parts = rows.train_test_split(test_size=part, seed=seed, stratify_by_column="label")
    except ValueError as error:
        raise ValueError(
            f"Expected enough samples of every class in {part!r} of {len(rows)}: {error} Raise `{setting}`."
        ) from error
    return parts["train"], parts["test"]


def _strata(rows: Dataset) -> list[int]:
    """Return the stratum of each row: its score rounded, or whether its question can be answered."""
    if "label" in rows.column_names:
        return [round(score) for score in rows["label"][:]]
    return [len(answers["text"]) > 0 for answers in rows["answers"][:]]


def _proportional(strata: Sequence[int], size: int, seed: int) -> list[int]:
    """Draw every n-th row of the rows sorted by stratum, in random order within each.

    This cannot fail, however few rows a stratum has: it then shares a draw with its neighbor.

    Example:
        >>> chosen = _proportional([0] * 30 + [1] * 60 + [2] * 1, 9, seed=0)
        >>> [sum(low <= i < high for i in chosen) for low, high in ((0, 30), (30, 91))]
        [3, 6]
    """
    rng = Random(seed)
    order = list(range(len(strata)))
    rng.shuffle(order)
    order.sort(key=strata.__getitem__)
    offset = rng.randrange(len(order))
    return sorted(order[(i * len(order) + offset) // size] for i in range(size))


def _whole_articles(rows: Dataset, size: float, seed: int) -> list[int]:
    keys: list[Hashable] = []
    for column in ("title", "context", "id"):
        keys = rows[column][:]
        if len(set(keys)) > 1:
            break
    chosen = _whole_groups(Counter(keys), size, seed)
    return [i for i, key in enumerate(keys) if key in chosen]


def _whole_groups(sizes: Counter[Hashable], size: float, seed: int) -> set[Hashable]:
    """Choose groups, not none and not all, as close to ``size`` as the best of many random orders comes.

    Example:
        >>> sorted(_whole_groups(Counter(a=50, b=30, c=21), 51, seed=0))
        ['b', 'c']
    """
    rng = Random(seed)
    order = sorted(sizes, key=str)
    tried = []
    for _ in range(NUM_ORDERS):
        rng.shuffle(order)
        tried.append(_filled(order, sizes, size))
    return min(tried, key=lambda groups: abs(sum(sizes[group] for group in groups) - size))


def _filled(order: Sequence[Hashable], sizes: Counter[Hashable], size: float) -> set[Hashable]:
    """Take the groups that fit, in the given order, and one more if that comes closer or nothing fits."""
    chosen: set[Hashable] = set()
    total = 0
    for group in order:
        if total + sizes[group] <= size:
            chosen.add(group)
            total += sizes[group]
    left = [group for group in order if group not in chosen]
    smallest = min(left, key=sizes.__getitem__)  # all that are left exceed ``size``, this one the least
    if not chosen or (len(left) > 1 and total + sizes[smallest] - size < size - total):
        chosen.add(smallest)
    return chosen
