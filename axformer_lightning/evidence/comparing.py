"""A comparison of two settings over seeds, and its verdict in words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from axformer_lightning.evidence.paired import McNemar, Pair, gains_resampled, mcnemar
from axformer_lightning.evidence.resampling import CONFIDENCE
from axformer_lightning.evidence.seeds import Mean, holm, least_p, mean_of

ENOUGH_SEEDS = 6  # with fewer no test without the assumption of normal differences can reach 5 %
BETTER, WORSE, NEITHER = "better", "worse", "not distinguishable at 95 %"


@dataclass(frozen=True)
class Comparison:
    """How a metric differs between two settings. All numbers are points, differences times 100.

    Two things are left to chance: the training, of which seeds are samples, and the choice of the dev samples. A
    verdict needs both tests, so ``p`` is the larger one; without predictions it takes more seeds.

    Args:
        gains: of each seed, in points.
        over_seeds: their mean, and what Student's t says of it.
        low: lower end of the paired bootstrap's 95 % interval of the mean, over samples; None without predictions.
        high: its upper end.
        least: lower end of the one-sided 95 % interval, the smaller one of both: no more than this is lost; None where
            nothing can be tested.
        p: two-sided; None where nothing can be tested.
        corrected_p: by Holm's method for all comparisons that are looked at together.
        test: McNemar's, of a single seed's accuracy.
    """

    gains: tuple[float, ...]
    over_seeds: Mean
    low: float | None
    high: float | None
    least: float | None
    p: float | None
    corrected_p: float | None = None
    test: McNemar | None = None

    @property
    def verdict(self) -> str:
        """In words: which of the two is better, as far as can be told."""
        p = self.p if self.corrected_p is None else self.corrected_p
        if p is None or p >= 1 - CONFIDENCE or self.over_seeds.mean == 0:
            return NEITHER
        return BETTER if self.over_seeds.mean > 0 else WORSE

    @property
    def limits(self) -> str:
        """In words: what so many seeds cannot tell."""
        num_seeds = len(self.gains)
        if not self.over_seeds.is_number:
            return "A metric is no number: nothing can be tested. Leave out the run that has diverged, or repeat it."
        if self.p is None:
            seeds = "One seed" if num_seeds == 1 else f"{num_seeds} seeds"
            return f"{seeds} without predictions: nothing can be tested. Keep predictions, or run {ENOUGH_SEEDS} seeds."
        if num_seeds == 1:
            return "One seed: said of these two models, not of the method."
        said = [] if self.low is not None else ["No predictions: the choice of dev samples is not tested."]
        if num_seeds < ENOUGH_SEEDS:
            said.append(
                f"{num_seeds} seeds: the verdict assumes that differences are normal; a test that does not cannot reach"
                f" 5 % (its least p is {least_p(num_seeds):.2g})."
            )
        return " ".join(said)

    def loses_no_more_than(self, points: float) -> bool | None:
        """Tell whether no more than so many points are lost, with 95 % confidence; None if it cannot be tested."""
        return None if self.least is None else self.least >= -points


def compare(values: Sequence[tuple[float, float]], metric: str, pairs: Sequence[Pair] = ()) -> Comparison:
    """Compare two settings.

    Args:
        values: of each seed the metric of both, as fractions.
        metric: its official name.
        pairs: of each seed the predictions of both on the dev set, if they were kept.

    Raises:
        ValueError: if there are no values, or pairs of other samples.

    Example:
        >>> found = compare([(0.80, 0.81), (0.79, 0.81), (0.80, 0.82)] * 2, "accuracy")
        >>> f"{found.over_seeds.mean:+.2f}, {found.verdict}, at least {found.least:+.2f}"
        '+1.67, better, at least +1.24'
        >>> compare([(0.80, 0.81)] * 2, "accuracy").verdict  # two seeds that happen to agree, and no predictions
        'not distinguishable at 95 %'
    """
    drawn = pairs and len(pairs) == len(values) and len(pairs[0][0]) > 1  # one sample is always drawn alike
    resampled = gains_resampled(pairs, metric) if drawn else None
    test = mcnemar(*pairs[0]) if len(pairs) == 1 == len(values) and metric == "accuracy" else None
    return compared([100 * (second - first) for first, second in values], resampled, test)


def compared(
    gains: Sequence[float], resampled: NDArray[np.float64] | None = None, test: McNemar | None = None
) -> Comparison:
    """Return what the gains of seeds, in points, and the mean gain in resamples, as fractions, say together."""
    over_seeds = mean_of(gains)
    low = high = samples_least = samples_p = None
    if not over_seeds.is_number:
        return Comparison(tuple(gains), over_seeds, None, None, None, None)
    if resampled is not None:
        tail = (1 - CONFIDENCE) / 2
        low, samples_least, high = (100 * float(q) for q in np.quantile(resampled, (tail, 2 * tail, 1 - tail)))
        samples_p = _normal_p(over_seeds.mean, 100 * float(resampled.std())) if test is None else test.p
    is_tested = resampled is not None or len(gains) >= ENOUGH_SEEDS
    known = [p for p in (over_seeds.p, samples_p) if p is not None] if is_tested else []
    bounds = [bound for bound in (over_seeds.least, samples_least) if bound is not None] if is_tested else []
    return Comparison(
        tuple(gains), over_seeds, low, high, min(bounds, default=None), max(known, default=None), test=test
    )


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return comparisons that are looked at together, with p-values that allow for there being several.

    Example:
        >>> one = compared([2.0, 1.0, 3.0, -1.0, 2.0, 2.0])
        >>> [found.verdict for found in corrected([one] * 4)]
        ['not distinguishable at 95 %', ...]
    """
    ps = iter(holm([comparison.p for comparison in comparisons if comparison.p is not None]))
    return [one if one.p is None else replace(one, corrected_p=next(ps)) for one in comparisons]


def _normal_p(mean: float, error: float) -> float:
    """Return the p of a mean with that standard error; counting resamples could say nothing below 1 in 2,000."""
    from scipy.stats import norm  # of the extra `app`

    return 2 * float(norm.sf(abs(mean) / error)) if error else float(mean == 0)
