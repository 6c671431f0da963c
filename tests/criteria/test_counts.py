"""Counting samples one after the other, and stopping when it is clear that there are too many."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from axformer_lightning.criteria import surely_more

N = 192


def stopped_after(of_kind_N, most, error=0.05, batch=8):
    """Return how many samples are seen until it is surely more than ``most``, or None."""
    found = 0
    for seen, chunk in enumerate(of_kind_N.split(batch), 1):
        found += int(chunk.sum())
        if surely_more(found, min(seen * batch, len(of_kind_N)), most, len(of_kind_N), error):
            return min(seen * batch, len(of_kind_N))
    return None


def shuffled(count, seed):
    return (torch.randperm(N, generator=torch.Generator().manual_seed(seed)) < count).long()


@pytest.mark.parametrize("count", [5, 40, 96, 150, 187])
@pytest.mark.parametrize("batch", [1, 8])
def test_it_is_wrong_no_more_often_than_stated(count, batch):
    wrong = [stopped_after(shuffled(count, seed), count, 0.1, batch) is not None for seed in range(400 // (9 - batch))]
    assert sum(wrong) <= 0.1 * len(wrong)
    assert any(wrong) or count == 187  # with few samples of the other kind nothing is ever sure


@pytest.mark.parametrize(("count", "share"), [(130, 0.6), (150, 0.3), (180, 0.15)])
def test_the_more_there_are_the_sooner_it_is_sure(count, share):
    stops = [stopped_after(shuffled(count, seed), N // 2) for seed in range(200)]
    assert sum(stops) / len(stops) <= share * N


@given(st.integers(1, 30), st.data())
def test_all_counts_that_could_be_the_truth_speak_against_it(num_samples, data):
    """The count in question is the one that the samples seen contradict least, of all that are no larger."""
    seen = data.draw(st.integers(0, num_samples))
    found = data.draw(st.integers(0, seen))
    most = data.draw(st.integers(0, num_samples))
    error = data.draw(st.sampled_from([0.01, 0.1, 0.5, 0.9]))

    def ratio(count):
        """Prior by posterior, by Bayes' rule and the hypergeometric distribution."""

        def likelihood(k):
            return math.comb(k, found) * math.comb(num_samples - k, seen - found) / math.comb(num_samples, seen)

        mean = sum(likelihood(k) for k in range(num_samples + 1)) / (num_samples + 1)
        return mean / likelihood(count) if likelihood(count) else math.inf

    least = min(ratio(count) for count in range(most + 1))
    if seen == num_samples and found <= most:
        assert not surely_more(found, seen, most, num_samples, error)
    elif abs(least * error - 1) > 1e-6:
        assert surely_more(found, seen, most, num_samples, error) == (least > 1 / error)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 200))
def test_more_confidence_never_stops_sooner(found, others, most):
    options = (found, found + others, most, 200)
    assert surely_more(*options, 0.01) <= surely_more(*options, 0.1)


def test_what_is_certain_needs_no_confidence():
    assert surely_more(97, 97, 96, N, 1e-300)
    assert not surely_more(96, N, 96, N, 0.9)
    assert not surely_more(0, 0, 96, N, 0.9)
