"""Metrics of many resamples at once; the names and values are those of the tasks' metrics.

Shape suffixes: ``N`` samples; labels and predictions have shape ``(..., N)``, values ``(...)``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]
Metric = Callable[[Numbers, Numbers], Numbers]


def accuracy(labels_N: Numbers, preds_N: Numbers) -> Numbers:
    """Return the share of samples that are right.

    Example:
        >>> float(accuracy(np.array([0, 1, 2, 1]), np.array([0, 1, 1, 1])))
        0.75
    """
    return np.asarray((labels_N == preds_N).mean(-1))


def f1(labels_N: Numbers, preds_N: Numbers) -> Numbers:
    """Return F1 of class 1, and 0 where nothing is or is said to be of it.

    Example:
        >>> float(f1(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])))
        0.666...
    """
    hits, _, said, are = _counts(labels_N, preds_N)
    return _ratio(2 * hits, said + are)


def matthews_correlation(labels_N: Numbers, preds_N: Numbers) -> Numbers:
    """Return Matthews' correlation of two classes, and 0 where one of the two is constant.

    Example:
        >>> float(matthews_correlation(np.array([0, 1, 1, 0]), np.array([0, 1, 1, 0])))
        1.0
    """
    hits, all_, said, are = _counts(labels_N, preds_N)
    return _ratio(all_ * hits - said * are, np.sqrt(said * (all_ - said) * are * (all_ - are)))


def pearson(labels_N: Numbers, preds_N: Numbers) -> Numbers:
    """Return Pearson's correlation, and 0 where one side is constant.

    Example:
        >>> round(float(pearson(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))), 6)
        1.0
    """
    labels_N = labels_N - labels_N.mean(-1, keepdims=True)
    preds_N = preds_N - preds_N.mean(-1, keepdims=True)
    squares = np.square(labels_N).sum(-1) * np.square(preds_N).sum(-1)
    return _ratio((labels_N * preds_N).sum(-1), np.sqrt(squares))


def spearman(labels_N: Numbers, preds_N: Numbers) -> Numbers:
    """Return Pearson's correlation of the ranks; equal values share the mean of their ranks.

    Example:
        >>> round(float(spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 100.0]))), 6)
        1.0
    """
    from scipy.stats import rankdata  # of the extra `app`

    return pearson(rankdata(labels_N, axis=-1), rankdata(preds_N, axis=-1))


METRICS: dict[str, Metric] = {
    metric.__name__: metric for metric in (accuracy, f1, matthews_correlation, pearson, spearman)
}


def _counts(labels_N: Numbers, preds_N: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Return how many samples of class 1 are found, are there, are said to be of it, and are of it; as floats."""
    are_N, said_N = labels_N == 1, preds_N == 1
    counts = ((are_N & said_N).sum(-1), are_N.shape[-1], said_N.sum(-1), are_N.sum(-1))
    hits, all_, said, are = (np.asarray(count, dtype=np.float64) for count in counts)
    return hits, all_, said, are


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    return np.divide(above, below, out=np.zeros_like(np.asarray(above, dtype=np.float64)), where=below > 0)
