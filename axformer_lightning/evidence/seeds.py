"""Several seeds: a mean with its interval, and what several comparisons ask of each."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from axformer_lightning.evidence.resampling import CONFIDENCE


@dataclass(frozen=True)
class Mean:
    """The mean of some values, and what Student's t says of it; without more than one value it says nothing.

    In an f-string it is the mean, in the format that is given, and the deviation.

    Example:
        >>> print(f"{mean_of([80.0, 81.0])}, {mean_of([1.0]):+.1f}, {mean_of([float('nan')])}")
        80.50 ± 0.71, +1.0, no number

    Args:
        mean: of the values.
        deviation: their sample standard deviation.
        low: lower end of the two-sided 95 % interval of the mean.
        high: its upper end.
        least: lower end of the one-sided 95 % interval.
        p: two-sided, of a mean of 0.
    """

    mean: float
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    least: float | None = None
    p: float | None = None

    @property
    def is_number(self) -> bool:
        """Whether all values are: the metric of a model that has diverged is not, and then there is no mean."""
        return not math.isnan(self.mean)

    def __format__(self, spec: str) -> str:
        if not self.is_number:
            return "no number"
        return format(self.mean, spec or ".2f") + ("" if self.deviation is None else f" ± {self.deviation:.2f}")


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of values that were drawn independently, with its interval.

    Where one of them is no number, as a metric of a model that has diverged, neither is their mean, and nothing else is
    known.

    Args:
        values: one for each seed.

    Raises:
        ValueError: if there are none.

    Example:
        >>> mean = mean_of([0.4, 1.0, 1.6])
        >>> f"{mean.mean:.1f} ({mean.low:.2f} to {mean.high:.2f}), p = {mean.p:.2f}"
        '1.0 (-0.49 to 2.49), p = 0.10'
        >>> mean_of([0.4]).low is None
        True
    """
    from scipy.stats import t  # of the extra `app`

    if not values:
        raise ValueError("Expected at least one value, got none. Pass one for each seed.")
    if not all(map(math.isfinite, values)):
        return Mean(math.nan)
    mean, degrees = statistics.fmean(values), len(values) - 1
    if not degrees:
        return Mean(mean)
    deviation = statistics.stdev(values)
    error = deviation / len(values) ** 0.5
    p = 2 * float(t.sf(abs(mean) / error, degrees)) if error else float(mean == 0)
    wide, narrow = (error * float(t.ppf(share, degrees)) for share in ((1 + CONFIDENCE) / 2, CONFIDENCE))
    return Mean(mean, deviation, mean - wide, mean + wide, mean - narrow, p)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for there being several, by Holm's method: at 5 % one false claim in all of them.

    Args:
        ps: of all comparisons that are looked at together.

    Raises:
        ValueError: if one is not between 0 and 1.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    if wrong := [p for p in ps if not 0 <= p <= 1]:
        raise ValueError(f"Expected p-values from 0 to 1, got {wrong}. Leave out what was not tested.")
    corrected, least = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - rank) * ps[i]))
        corrected[i] = least
    return corrected


def least_p(num_seeds: int) -> float:
    """Return the lowest p that a test of paired seeds can give which does not assume that differences are normal.

    It is that of Wilcoxon's signed ranks and of flipping signs: all differences point the same way.

    Example:
        >>> least_p(3), least_p(6)
        (0.25, 0.03125)
    """
    return float(min(1.0, 2.0 ** (1 - num_seeds)))
