import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.regression import MeanSquaredError

from axformer_lightning.criteria import Rule, lower, make_rule, not_worse, votes_suffice, worth_inspecting

NUMBERS = st.floats(-100, 100, width=32)
MARGINS = st.floats(0, 1, width=32)


def test_a_tie_is_not_worse():
    assert not_worse(tensor([0.9, 1.0, 1.1]), tensor([1.0, 1.0, 1.0])).tolist() == [True, True, False]


def test_with_a_tolerance_a_sample_is_worse_only_beyond_that_share_of_its_own_loss():
    assert not_worse(tensor([1.125, 11.0, 1.25]), tensor([1.0, 10.0, 1.0]), 0.125).tolist() == [True, True, False]


def test_the_tolerance_of_a_negative_loss_goes_upwards_too():
    assert not_worse(tensor([-0.875, -1.125, -0.75]), tensor([-1.0, -1.0, -1.0]), 0.125).tolist() == [True, True, False]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1), MARGINS)
def test_a_tolerance_never_makes_a_sample_worse(pairs, tolerance):
    loss_N, base_N = tensor(pairs).unbind(1)
    assert not (not_worse(loss_N, base_N) & ~not_worse(loss_N, base_N, tolerance)).any()


@pytest.mark.parametrize(
    ("votes", "samples", "majority", "suffice"),
    [
        (5, 10, 0.5, False),
        (6, 10, 0.5, True),
        (5, 11, 0.5, False),
        (6, 11, 0.5, True),
        (1, 1, 0.5, True),
        (0, 1, 0.5, False),
        (0, 10, 0, True),
        (9, 10, 0.9, False),
        (10, 10, 0.99, True),
    ],
)
def test_strictly_more_than_the_floor_of_the_share_have_to_agree(votes, samples, majority, suffice):
    assert votes_suffice(votes, samples, majority) is suffice


@given(st.integers(1, 500), st.floats(0, 1, exclude_max=True), st.data())
def test_all_votes_always_suffice_and_one_more_never_harms(samples, majority, data):
    votes = data.draw(st.integers(0, samples))
    assert votes_suffice(samples, samples, majority)
    assert votes_suffice(votes + 1, samples, majority) >= votes_suffice(votes, samples, majority)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_without_a_tolerance_lower_is_exactly_strictly_lower(value, best, base):
    assert lower(value, best, base) is (value < best)


@given(NUMBERS, NUMBERS, NUMBERS, st.floats(2**-10, 1, width=32))
def test_the_tolerance_bounds_the_total_not_the_step(value, best, base, tolerance):
    assert lower(value, best, base, tolerance) is (value < best or value <= base + tolerance * abs(base))
    assert lower(value, best, base, tolerance, absolute=True) is (value < best or value <= base + tolerance)


@pytest.mark.parametrize(
    ("value", "accepted"), [(-0.95, False), (-0.9, True), (-0.89, True), (-0.875, True), (-0.8, False)]
)
def test_a_metric_turned_around_may_drop_by_the_tolerance(value, accepted):
    assert lower(value, best=-0.9, base=-0.9375, tolerance=0.0625, absolute=True) is (accepted or value < -0.9)


@pytest.mark.parametrize(
    ("loss", "best", "worth"),
    [(1.05, 1.0, True), (1.2, 1.0, False), (2.1, 2.0, True), (-0.95, -1.0, True), (-0.8, -1.0, False)],
)
def test_parts_are_worth_a_look_below_the_factor_times_the_best(loss, best, worth):
    assert worth_inspecting(loss, best, 1.1) is worth


def test_a_block_at_the_bound_is_not_inspected():
    assert not worth_inspecting(1.5, 1.0, 1.5)


@given(NUMBERS, NUMBERS)
def test_a_factor_of_one_inspects_only_what_is_lower(loss, best):
    assert worth_inspecting(loss, best, 1.0) is (loss < best)


@pytest.mark.parametrize("majority", [-0.1, 1, 1.5, math.nan])
def test_a_majority_outside_its_range_is_refused(majority):
    with pytest.raises(ValueError, match=rf"`majority` in \[0, 1\).* got {majority}"):
        Rule(majority=majority)


@pytest.mark.parametrize("tolerance", [-0.1, math.inf, math.nan])
def test_a_tolerance_that_is_no_number_of_at_least_zero_is_refused(tolerance):
    with pytest.raises(ValueError, match=rf"`tolerance` .* got {tolerance}"):
        Rule(tolerance=tolerance)


def test_a_metric_without_a_direction_is_refused():
    with pytest.raises(ValueError, match="higher is better, got MeanMetric"):
        Rule(metric=MeanMetric())


@pytest.mark.parametrize(("criterion", "metric"), [("metrics", None), (None, None), ("metric", None)])
def test_a_criterion_that_names_nothing_is_refused(criterion, metric):
    with pytest.raises(ValueError, match="metric"):
        make_rule(criterion, metric, 0.5, 0.0)


def test_the_three_ways_to_name_a_criterion():
    accuracy, error = MulticlassAccuracy(3), MeanSquaredError()
    assert make_rule("loss", accuracy, 0.25, 0.5) == Rule(0.25, 0.5, None)
    assert make_rule("metric", accuracy, 0.25, 0.5).metric is accuracy
    assert make_rule(error, accuracy, 0.25, 0.5).metric is error
