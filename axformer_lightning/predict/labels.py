"""From the logits of a classifier or a regression to names and numbers.

Shape suffixes: ``N`` samples, ``L`` labels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axformer_lightning.exporting import Notes


def labels_of(logits_NL: NDArray[np.float32], notes: Notes) -> Iterator[dict[str, Any]]:
    """Yield what the logits of each sample say; the notes tell which kind of task it is.

    Args:
        logits_NL: shape (N, L).
        notes: `labels` and `problem_type` count.

    Example:
        >>> notes = Notes("BertForSequenceClassification", (), (), ("no", "yes"), 512, 0)
        >>> (said,) = labels_of(np.array([[0.0, np.log(3)]]), notes)
        >>> said
        {'label': 'yes', 'probability': 0.75, 'probabilities': {'no': 0.25, 'yes': 0.75}}
    """
    kind, names, count = notes.problem_type, notes.labels, logits_NL.shape[1]
    logits_NL = logits_NL.astype(np.float64)
    if kind == "regression" or count == 1:
        for row in logits_NL:
            yield {"score": _plain(row[0])} if count == 1 else {"scores": _named(names, row)}
    elif kind == "multi_label_classification":
        for row in np.exp(-np.logaddexp(0, -logits_NL)):
            yield {
                "labels": [name for name, value in zip(names, row, strict=True) if value > 0.5],
                "probabilities": _named(names, row),
            }
    else:
        powers_NL = np.exp(logits_NL - logits_NL.max(1, keepdims=True))
        for row in powers_NL / powers_NL.sum(1, keepdims=True):
            best = int(row.argmax())
            yield {"label": names[best], "probability": _plain(row[best]), "probabilities": _named(names, row)}


def _named(names: Sequence[str], row: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(names, map(_plain, row), strict=True))


def _plain(value: float) -> float:
    return round(float(value), 6)
