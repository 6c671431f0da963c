import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from axformer_lightning.criteria import Clause, Excess, surely_positive

NUM_SAMPLES = 64 * 32
BATCHES = st.lists(st.tuples(st.integers(-100, 100), st.integers(1, 100)), max_size=60)


def symmetric(rng):
    return torch.randn(NUM_SAMPLES, generator=rng), 1.0


def few_are_mended(rng):
    """One sample in fifty gets right what was very wrong, all others get a little worse."""
    return torch.where(torch.arange(NUM_SAMPLES) < NUM_SAMPLES // 50, -3.0, 0.05), 0.3


def nothing_to_spare(rng):
    """As `symmetric`, but no unit is counted that was not seen: the test keeps its level without it too."""
    return torch.randn(NUM_SAMPLES, generator=rng), 0.0


def votes(rng):
    return torch.arange(NUM_SAMPLES) % 2 - 0.5, 0.5


def nine_votes_in_ten(rng):
    return 0.9 - (torch.rand(NUM_SAMPLES, generator=rng) < 0.9).float(), 0.1


POPULATIONS = [symmetric, nothing_to_spare, few_are_mended, votes, nine_votes_in_ten]


def evaluated(population, shift, batch_size, clustered, seed):
    """Return what share of the search set a candidate is evaluated on; it is worse by ``shift`` on average."""
    rng = torch.Generator().manual_seed(seed)
    excess_N, spare = population(rng)
    noise_N = torch.randn(NUM_SAMPLES, generator=rng)
    excess_N = excess_N[(noise_N + clustered * excess_N).argsort()].double()
    excess_N += shift - excess_N.mean()
    batches = excess_N.reshape(-1, batch_size).sum(1)
    excess = Excess(spare + shift)
    for count, i in enumerate(torch.randperm(len(batches), generator=rng).tolist(), 1):
        excess = excess.plus(batches[i].item(), batch_size)
        if surely_positive(excess, NUM_SAMPLES, 0.05):
            return count / len(batches)
    return 1.0


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize(("batch_size", "clustered"), [(32, 0.0), (32, 0.3), (128, 0.0)])
@pytest.mark.parametrize("times", [200, pytest.param(2000, marks=pytest.mark.exhaustive)])
def test_what_would_be_accepted_is_given_up_no_more_often_than_stated(population, batch_size, clustered, times):
    # It would be accepted but for a tie, the hardest case.
    lost = sum(evaluated(population, 0.0, batch_size, clustered, seed) < 1 for seed in range(times))
    assert lost <= 0.05 * times


@given(st.lists(st.integers(-5, 20), min_size=1, max_size=50), st.sampled_from([0.0, 0.125]))
def test_it_is_sure_when_the_mixture_of_likelihood_ratios_says_so(totals, spare):
    excess = Excess(spare)
    for total in totals:
        excess = excess.plus(total, 32)
    # The average sample at its best, over one unit; then the sum as a Brownian motion of variance one per unit.
    values = [*totals, -32 * spare]
    correction = NUM_SAMPLES / (NUM_SAMPLES - 32 * len(totals))
    if sum(values) <= 0:
        assert not surely_positive(excess, NUM_SAMPLES, 0.999)
        return
    sigma = math.sqrt(sum(value**2 for value in values) / len(values))
    drift = torch.linspace(0, 5, 100_001, dtype=torch.float64)[1:]  # half-normal, of standard deviation 1/2
    prior = torch.exp(-2 * drift**2) * 4 / math.sqrt(2 * math.pi)
    ratio = torch.exp(drift * sum(values) / sigma * correction - drift**2 * len(totals) * correction / 2)
    evidence = torch.trapezoid(prior * ratio, drift).item()
    assert surely_positive(excess, NUM_SAMPLES, 1.01 / evidence)
    assert not surely_positive(excess, NUM_SAMPLES, 0.99 / evidence)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_of_small_batches_no_more_is_given_up_than_stated(batch_size):
    lost = sum(evaluated(few_are_mended, 0.0, batch_size, 0.0, seed) < 1 for seed in range(60))
    assert lost <= 0.05 * 60


@pytest.mark.parametrize(
    ("population", "shift", "share"), [(symmetric, 0.5, 0.3), (few_are_mended, 0.2, 0.3), (votes, 0.25, 0.35)]
)
@pytest.mark.parametrize("batch_size", [8, 32])
def test_what_is_much_worse_is_given_up_early(population, shift, share, batch_size):
    assert max(evaluated(population, shift, batch_size, 0.0, seed) for seed in range(50)) <= share


@given(st.lists(st.floats(0, 1e6), max_size=31))
def test_nothing_is_given_up_on_fewer_samples_than_one_unit(totals):
    excess = Excess(0.0)
    for total in totals:
        excess = excess.plus(total, 1)
        assert not surely_positive(excess, 33, 0.5)


@given(BATCHES)
def test_units_are_of_32_samples_or_more_and_nothing_gets_lost(batches):
    excess = Excess(0.5)
    for total, samples in batches:
        excess = excess.plus(total, samples)
    assert excess.total + excess.open_total == sum(total for total, _ in batches)
    assert excess.samples + excess.open_samples == sum(samples for _, samples in batches)
    assert excess.units * 32 <= excess.samples
    assert excess.open_samples < 32


def repeated(total, units, spare=0.5):
    excess = Excess(spare)
    for _ in range(units):
        excess = excess.plus(total, 32)
    return excess


@pytest.mark.parametrize("units", [1, 10, 63])
@pytest.mark.parametrize("spare", [0.0, 0.5])
def test_a_candidate_that_changes_nothing_is_never_given_up(units, spare):
    assert not surely_positive(repeated(0.0, units, spare), NUM_SAMPLES, 0.5)


def test_units_that_are_all_equally_worse_count_only_when_there_are_several():
    given_up = [surely_positive(repeated(16.0, units), NUM_SAMPLES, 0.025) for units in range(64)]
    assert given_up == sorted(given_up)
    assert 5 <= given_up.index(True) <= 15


def test_when_all_samples_are_seen_there_is_nothing_to_give_up():
    assert surely_positive(repeated(16.0, 63), NUM_SAMPLES, 0.025)
    assert not surely_positive(repeated(16.0, 64), NUM_SAMPLES, 0.025)


def test_the_fewer_samples_are_left_the_sooner_it_is_sure():
    excess = repeated(3.0, 20).plus(60.0, 32)
    given_up = [surely_positive(excess, num_samples, 0.025) for num_samples in (21 * 32 + 8, 10**6)]
    assert given_up == [True, False]


@given(BATCHES, st.sampled_from([0.001, 0.1, 0.5]))
def test_more_confidence_never_gives_up_more_and_the_scale_does_not_matter(batches, error):
    excess, doubled = Excess(0.5), Excess(1.0)
    for total, samples in batches:
        excess, doubled = excess.plus(total, samples), doubled.plus(2 * total, samples)
    assert surely_positive(excess, 10**4, error) == surely_positive(doubled, 10**4, error)
    assert surely_positive(excess, 10**4, error / 10) <= surely_positive(excess, 10**4, error)


@given(st.lists(st.tuples(*[st.integers(0, 50)] * 2), min_size=32, max_size=99), st.sampled_from([0.0, 0.25]))
def test_the_excess_over_the_search_set_says_whether_its_mean_loss_is_above_the_bound(losses, tolerance):
    loss_N, best_N = torch.tensor(losses).double().unbind(1)
    best = best_N.mean().item()
    bound = Clause("loss").bar(SimpleNamespace(loss=best), SimpleNamespace(loss=10.0), tolerance).value
    excess = Excess(bound).plus((loss_N - best_N - (bound - best)).sum().item(), len(loss_N))
    assert excess.total == pytest.approx(len(loss_N) * (loss_N.mean().item() - bound), abs=1e-6)
