"""Whether a classifier is as sure as it is right."""

from dataclasses import dataclass

import numpy as np

from axformer_lightning.evidence.predictions import Predictions

BINS = 15  # arXiv 1706.04599


@dataclass(frozen=True)
class Calibration:
    """How sure a classifier is, and how often it is right.

    Args:
        error: expected calibration error: the mean distance of the two, over samples.
        bins: of each bin that holds samples: mean confidence, share that is right, number of samples.
    """

    error: float
    bins: tuple[tuple[float, float, int], ...]


def calibration_of(predictions: Predictions) -> Calibration | None:
    """Return the calibration of a classifier on a dev set, with 15 bins; None without classes or without samples.

    A model that says what is no number, as one that has diverged, is neither sure nor unsure: None as well.

    Args:
        predictions: with `labels` and `logits`.

    Example:
        >>> logits = np.array([[2.0, 0.0], [2.0, 0.0]])
        >>> found = calibration_of(Predictions({"labels": np.array([0, 1]), "logits": logits}))
        >>> f"{found.error:.3f}", found.bins[0][1:]
        ('0.381', (0.5, 2))
    """
    logits, labels = predictions.arrays.get("logits"), predictions.labels
    if labels is None or logits is None or logits.ndim != 2 or logits.shape[1] < 2 or not len(labels):
        return None
    if not np.isfinite(logits).all():
        return None
    exponents = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    sure_N = (exponents / exponents.sum(-1, keepdims=True)).max(-1)
    right_N = predictions.preds == labels
    bin_N = np.minimum((sure_N * BINS).astype(int), BINS - 1)
    bins = tuple(
        (float(sure_N[here].mean()), float(right_N[here].mean()), int(here.sum()))
        for here in (bin_N == i for i in range(BINS))
        if here.any()
    )
    return Calibration(sum(n * abs(sure - right) for sure, right, n in bins) / len(labels), bins)
