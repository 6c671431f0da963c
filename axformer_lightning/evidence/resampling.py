"""Samples drawn anew: what other dev sets of the same kind might have looked like.

Needs numpy only, as the core tests its floor with it; scipy comes with the extra `app`.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000
FLOOR_RESAMPLES = 1000  # of a floor while a budget search goes on, where each costs a metric
BLOCK = 1 << 20  # indices that are held at once: 8 MB


def draws(num_samples: int, resamples: int = RESAMPLES, *, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of resamples with replacement, in blocks of shape ``(some, num_samples)``; the same for a seed.

    Args:
        num_samples: how many rows there are, and how many each resample has.
        resamples: how many there are in all blocks together.
        seed: of the random numbers.

    Raises:
        ValueError: if there are no samples.

    Example:
        >>> blocks = list(draws(408, 1000))
        >>> sum(map(len, blocks)), blocks[0].shape[1], int(blocks[0].max()) < 408
        (1000, 408, True)
    """
    if num_samples < 1:
        raise ValueError(f"Expected at least one sample to draw from, got {num_samples}. Pass predictions.")
    random = np.random.default_rng(seed)
    most = max(1, BLOCK // num_samples)
    for done in range(0, resamples, most):
        yield random.integers(num_samples, size=(min(most, resamples - done), num_samples))
