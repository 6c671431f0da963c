"""From the logits of a classifier or a regression to names and numbers.

Shape suffixes: ``N`` samples, ``L`` labels.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def labels_of(logits_NL: NDArray[np.float32], config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what the logits of each sample say; the config tells which kind of task it is.

    Args:
        logits_NL: shape (N, L).
        config: `id2label` and `problem_type`, as in `config.json`.

    Example:
        >>> (said,) = labels_of(np.array([[0.0, np.log(3)]]), {"id2label": {"0": "no", "1": "yes"}})
        >>> said
        {'label': 'yes', 'probability': 0.75, 'probabilities': {'no': 0.25, 'yes': 0.75}}
        >>> list(labels_of(np.array([[4.5]]), {}))
        [{'score': 4.5}]
    """
    kind, count = config.get("problem_type"), logits_NL.shape[1]
    names = _names(config.get("id2label") or {}, count)
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


def _names(id2label: Mapping[Any, str], count: int) -> list[str]:
    return [id2label.get(i) or id2label.get(str(i)) or f"LABEL_{i}" for i in range(count)]


def _named(names: list[str], row: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(names, map(_plain, row), strict=True))


def _plain(value: float) -> float:
    return round(float(value), 6)
