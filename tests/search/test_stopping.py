"""Giving candidates up early: what can reject a candidate shares the error that the user allows."""

import pytest

from axformer_lightning.criteria import Bar, Rule, surely_more
from axformer_lightning.replay import Part
from axformer_lightning.search.stopping import Bounds, Watch

NUM_SAMPLES = 10_000
BEST = [Part(32.0, 32, 32)] * 100
WORSE = [Part(34.0 + 3 * (-1) ** i, 32, 32) for i in range(100)]  # on average; and no sample is worse by vote
OUTVOTED = [Part(32.0, 14 + i % 2, 32) for i in range(100)]  # with the same mean loss


def stopped_after(parts, majority, confidence):
    """How many batches a candidate is evaluated on."""
    bounds = Bounds(Rule(majority=majority), 1.0, Bar(1.0), None, NUM_SAMPLES)
    watch = Watch(bounds, BEST, confidence)
    return next(n for n in range(1, len(parts) + 1) if watch.is_surely_lost(parts[:n]))


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_loss_has_half_of_the_error_where_there_is_a_vote(confidence):
    alone = stopped_after(WORSE, 0, confidence)
    assert stopped_after(WORSE, 0.5, confidence) == stopped_after(WORSE, 0, (1 + confidence) / 2) > alone


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_vote_has_the_other_half(confidence):
    worse = [sum(32 - part.num_not_worse for part in OUTVOTED[:n]) for n in range(101)]
    expected = next(
        n
        for n in range(1, 101)
        if surely_more(worse[n], 32 * n, NUM_SAMPLES // 2 - 1, NUM_SAMPLES, (1 - confidence) / 2)
    )
    assert stopped_after(OUTVOTED, 0.5, confidence) == expected
