"""Statistical early rejection: is the rest of the search set still worth evaluating?

A candidate is lost if its mean loss over the whole search set is above the bound: if a sum over all samples, the
*excess*, is above zero. The excess is followed batch by batch, in an order that was shuffled once, and the candidate is
stopped early as soon as its excess is surely above zero. Votes are counted instead
(:mod:`~axformer_lightning.criteria.counts`).

Only rejections stop early. An accepted candidate has to be evaluated to the end, as its score becomes the best and the
losses of its samples are compared with those of the next candidates. So a wrong rejection costs a gain, never more.

The test uses sums over *units* of at least 32 samples, not samples: batches of samples of similar length are clusters,
and losses have a long tail. It is asymptotic, with precautions without which a nominal error of 2.5 % was 10 to 60 % in
simulations (:func:`surely_positive`).

Sources: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2021), "Time-uniform central limit theory and asymptotic
confidence sequences", arXiv 2103.06476; Robbins (1970), "Statistical methods related to the law of the iterated
logarithm", for the normal mixture; Rosen (1964), "Limit theorems for sampling from finite populations", for
sampling without replacement.
"""

import math
from typing import NamedTuple

UNIT = 32  # samples; also the fewest after which a candidate can be stopped
RHO2 = 0.25  # variance of the mixture: the test is sharpest after about 32 units


class Excess(NamedTuple):
    """Running sums of the excess of the samples seen so far.

    Args:
        spare: how far an average sample can be below the bound: the bound on the mean loss, as no loss is below zero.
        units: complete units.
        samples: samples in them.
        total: their excess.
        squares: the sum of the squares of the units' excess.
        open_samples: samples that do not fill a unit yet.
        open_total: their excess.

    Example:
        >>> Excess(spare=0.5).plus(3.0, 24).plus(1.0, 16).plus(2.0, 8)
        Excess(spare=0.5, units=1, samples=40, total=4.0, squares=16.0, open_samples=8, open_total=2.0)
    """

    spare: float
    units: int = 0
    samples: int = 0
    total: float = 0.0
    squares: float = 0.0
    open_samples: int = 0
    open_total: float = 0.0

    def plus(self, total: float, samples: int) -> "Excess":
        """Return the sums with one more batch.

        Args:
            total: its excess: ``sum(loss_N - best_N - (bound - best))`` with the value of a
                :class:`~axformer_lightning.criteria.Bar` as the bound, the losses ``best_N`` of the same samples with
                everything accepted so far and their mean ``best`` over the whole search set.
            samples: samples in it.
        """
        total, samples = total + self.open_total, samples + self.open_samples
        if samples < UNIT:
            return self._replace(open_total=total, open_samples=samples)
        return Excess(
            self.spare, self.units + 1, self.samples + samples, self.total + total, self.squares + total * total
        )


def surely_positive(excess: Excess, num_samples: int, error: float) -> bool:
    """Tell whether the excess over the whole search set is above zero; valid at every time at once.

    Robbins' one-sided normal mixture: under the hypothesis that the excess is not above zero, the sum of ``n`` units
    is at most a Brownian motion (asymptotically), and its mixture likelihood ratio is ever above ``1 / error`` with
    probability ``error`` at most. Three changes:

    * Without replacement, ``n`` of ``m`` units: the sum under the hypothesis is a Brownian bridge (Rosen), so
      ``sum * m / (m - n)`` is a Brownian motion at the time ``n * m / (m - n)`` (Doob's transformation).
    * The variance is taken about zero, the hypothesis, and not about the mean. The worse a candidate, the larger it is,
      so after a few units nothing is rejected yet. (With the variance about the mean: 10 to 20 %, see below.)
    * One more unit is counted, in which every sample is as good as an average sample can be. Otherwise candidates that
      fix few samples by much and harm many by little would be stopped before the first of those few is seen. (Without
      it: up to 27 %; with it 0 to 4 %; with it, but by single samples instead of units: up to 56 %.)

    The percentages are of simulated candidates, with a mean exactly at the bound, that were stopped at
    ``error=0.025``. No such test can foresee a gain that lies in very few batches, as with candidates that fix only the
    shortest samples: with 8 of 40 fixed samples in one batch of 64 it was 10 % at ``error=0.05``, with 25 of 40 it was
    45 %. Batches of samples that were drawn at random do not have this problem.

    Args:
        excess: the sums.
        num_samples: samples of the whole search set.
        error: probability of a wrong yes, above 0 and below 1.
    """
    left = num_samples - excess.samples
    if excess.units == 0 or left <= 0:
        return False  # nothing seen, or nothing left to save
    best_unit = -excess.spare * excess.samples / excess.units
    total, squares = excess.total + best_unit, excess.squares + best_unit**2
    if total <= 0:
        return False
    correction = num_samples / left
    time = excess.units * correction
    deviations = total * correction / math.sqrt(squares / (excess.units + 1))
    x = deviations * math.sqrt(RHO2 / (1 + RHO2 * time))
    both_tails = math.erfc(-x / math.sqrt(2))
    return math.log(both_tails) + x * x / 2 - math.log1p(RHO2 * time) / 2 > -math.log(error)
