"""Two models on the same samples: every sample is a pair.

Shape suffixes: ``N`` samples, ``R`` resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axformer_lightning.evidence.predictions import Predictions
from axformer_lightning.evidence.resampling import RESAMPLES, draws

Pair = tuple[Predictions, Predictions]  # what is compared with, and what is compared


@dataclass(frozen=True)
class McNemar:
    """The exact McNemar test: of the samples that one model alone gets right, would a fair coin divide them so?

    Args:
        lost: samples that the first model alone gets right.
        won: samples that the second alone gets right.
        p: two-sided.
    """

    lost: int
    won: int
    p: float


def mcnemar(first: Predictions, second: Predictions) -> McNemar:
    """Return the exact McNemar test of two classifiers.

    Args:
        first: what is compared with.
        second: what is compared.

    Raises:
        ValueError: if they were made on different samples.

    Example:
        >>> labels = np.zeros(10, dtype=int)
        >>> right, wrong = np.tile([1.0, 0.0], (10, 1)), np.tile([0.0, 1.0], (10, 1))
        >>> always, never = (Predictions({"labels": labels, "logits": logits}) for logits in (right, wrong))
        >>> mcnemar(never, always)
        McNemar(lost=0, won=10, p=0.001953125)
        >>> mcnemar(always, always).p
        1.0
    """
    from scipy.stats import binomtest  # of the extra `app`

    check_pair((first, second))
    right = [model.preds == model.labels for model in (first, second)]
    lost, won = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    return McNemar(lost, won, float(binomtest(won, lost + won).pvalue) if lost + won else 1.0)


def gains_resampled(
    pairs: Sequence[Pair], metric: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Return by how much the metric rises from first to second, the mean over pairs, in each resample.

    All pairs get the same samples in a resample: several seeds share one dev set, so more seeds make the choice of its
    samples matter no less.

    Args:
        pairs: predictions of two models each, all on the same samples.
        metric: its official name.
        resamples: how often the samples are drawn anew.
        seed: of these draws.

    Returns:
        Differences as fractions, shape ``(resamples,)``.

    Raises:
        ValueError: if the samples differ, or there are no pairs.

    Example:
        >>> labels, random = np.tile([0, 1], 200), np.random.default_rng(0)
        >>> first, second = (
        ...     Predictions({"labels": labels, "logits": np.eye(2)[np.where(random.random(400) < share, labels, 0)]})
        ...     for share in (0.5, 0.9)
        ... )
        >>> bool(np.quantile(gains_resampled([(first, second)], "accuracy"), 0.025) > 0)
        True
    """
    if not pairs:
        raise ValueError("Expected at least one pair of predictions, got none. Pass two models of one seed.")
    for pair in pairs:
        check_pair((pairs[0][0], pair[0]))
        check_pair(pair)
    blocks = draws(len(pairs[0][0]), resamples, seed=seed)
    if _is_mean(metric, pairs[0][0]):
        mean_N = np.mean([_values(second, metric) - _values(first, metric) for first, second in pairs], axis=0)
        return np.concatenate([mean_N[rows].mean(-1) for rows in blocks])
    return np.concatenate(
        [np.mean([b.value(metric, rows) - a.value(metric, rows) for a, b in pairs], axis=0) for rows in blocks]
    )


def check_pair(pair: Pair) -> None:
    """Raise unless two models were run on the same samples.

    Raises:
        ValueError: naming what differs.
    """
    first, second = pair
    if len(first) != len(second):
        raise ValueError(
            f"Expected predictions of two models on the same samples, got {len(first)} and {len(second)} samples."
            " Compare runs on the same data."
        )
    if first.labels is not None and not np.array_equal(first.labels, second.labels):  # type: ignore[arg-type]
        raise ValueError(
            "Expected predictions of two models on the same samples, got different labels. Compare runs on the same"
            " data."
        )


def _is_mean(metric: str, predictions: Predictions) -> bool:
    """Tell whether a metric is a mean over samples, of which one draw serves all models."""
    return metric == "accuracy" or metric in predictions.arrays


def _values(predictions: Predictions, metric: str) -> NDArray[np.float64]:
    if metric in predictions.arrays:
        return predictions.arrays[metric].astype(np.float64)
    return np.asarray(predictions.preds == predictions.labels, dtype=np.float64)
