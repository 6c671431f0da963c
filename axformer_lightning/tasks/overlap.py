"""The search set never holds rows of the dev set."""

import logging
from collections.abc import Iterable, Iterator, Mapping

from datasets import Dataset

from axformer_lightning.basics import digest_of
from axformer_lightning.tasks.phrases import words_of
from axformer_lightning.tasks.rows import text_columns

MOST = 0.05  # of the search set; official data have up to 1 in 1,000 (STS-B), a wrong file has most or all
logger = logging.getLogger(__name__)


def without_dev_rows(search: Dataset, dev: Mapping[str, Dataset]) -> Dataset:
    """Return a search set without the rows whose texts stand in a dev set, whatever their labels.

    Some official data have a row in both train and dev. A decision that was made on it would be reported on it, so it
    is taken out; refusing would leave such data sets unusable. Many such rows mean that dev is not held out at all.

    Texts are compared by the SHA-256 of their words, without regard to case and white space.

    Args:
        search: rows that decide.
        dev: rows for the report, by suffix.

    Raises:
        ValueError: if more than one in 20 rows of the search set is also in dev.

    Example:
        >>> dev = {"": Dataset.from_dict({"text_a": ["It rained."], "label": [1]})}
        >>> texts = [f"It rained on day {i}." for i in range(30)] + ["it  rained."]
        >>> search = Dataset.from_dict({"text_a": texts, "label": [0] * 31})
        >>> len(without_dev_rows(search, dev))
        30
    """
    kept = without_rows_of(search, dev.values())
    also = len(search) - len(kept)
    if also > MOST * len(search):
        raise ValueError(
            f"Expected a search set that holds no rows of the dev set, got {also} of {len(search)} rows that are in"
            " both. Give files whose dev set is held out from train."
        )
    if also:
        logger.warning("%d of %d rows of the search set are in dev, too, and are taken out.", also, len(search))
    return kept if also else search


def without_rows_of(rows: Dataset, others: Iterable[Dataset]) -> Dataset:
    """Return the rows whose texts are not those of any other row, whatever their labels.

    Args:
        rows: with texts.
        others: rows with texts in the same columns.
    """
    found = {digest for part in others for digest in _digests(part)}
    return rows.select([i for i, digest in enumerate(_digests(rows)) if digest not in found])


def _digests(rows: Dataset) -> Iterator[bytes]:
    columns = [rows[name][:] for name in text_columns(rows)]
    for texts in zip(*columns, strict=True):
        yield digest_of(" ".join(words_of(text)).encode() for text in texts)
