import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import rand, tensor
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.regression import MeanSquaredError

from axformer_lightning.criteria import (
    CRITERIA,
    Bar,
    Clause,
    LabelAccuracy,
    Rule,
    correct,
    inspection_bar,
    make_rule,
    not_turned_wrong,
    not_worse,
    votes_needed,
    votes_suffice,
)
from axformer_lightning.scoring import score_logits


def lower(value, best, base, tolerance=0.0, *, absolute=False):
    """As the rule is written: below the best, or within the tolerance of the base."""
    margin = tolerance if absolute else tolerance * abs(base)
    return value < best or (tolerance > 0 and value <= base + margin)


def no_higher(value, best, base, tolerance=0.0, *, absolute=False):
    """Likewise, with ties."""
    return value == best or lower(value, best, base, tolerance, absolute=absolute)


def totals(loss):
    return SimpleNamespace(loss=loss, metric=None)


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


@given(st.integers(1, 500), st.floats(0, 1, exclude_max=True), st.data())
def test_fewer_votes_than_are_needed_do_not_suffice(samples, majority, data):
    needed = votes_needed(samples, majority)
    votes = data.draw(st.integers(0, samples))
    assert votes_suffice(votes, samples, majority) == (votes >= needed)
    assert needed <= samples


def test_a_sample_is_right_if_all_its_labels_are():
    assert correct(tensor([1, 2, 0]), tensor([1, 0, 0]), 3).tolist() == [True, False, True]
    assert correct(tensor([[1, 2], [1, 2], [0, 0]]), tensor([[1, 2], [1, 3], [2, 0]]), 3).tolist() == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (tensor([[2.0, 0.0], [2.0, 0.0]]), {"labels": tensor([0, 1])}),
        (tensor([[2.0, -1.0], [2.0, -1.0]]), {"labels": tensor([[1.0, 0.0], [1.0, 1.0]])}),
        (
            (tensor([[2.0, 0.0], [2.0, 0.0]]), tensor([[0.0, 2.0], [0.0, 2.0]])),
            {"start_positions": tensor([0, 0]), "end_positions": tensor([1, 0])},
        ),
    ],
    ids=["classes", "several labels", "spans"],
)
def test_what_scoring_returns_can_be_right_or_wrong(logits, labels):
    scored = score_logits(logits, labels)
    assert correct(scored.preds, scored.target, 2).tolist() == [True, False]


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (rand(2), {"labels": rand(2)}, r"predicted labels .* floating-point .*vote='loss'"),
        (
            rand(2, 3, 4),
            {"labels": tensor([[0, 1, 2], [3, 2, -100]])},
            r"each of the 2 samples .* \(5,\) .*vote='loss'",
        ),
        (
            rand(3, 4),
            {"labels": tensor([0, 1, 2]), "sample_ids": tensor([0, 0, 1])},
            r"each of the 2 samples .* \(3,\)",
        ),
    ],
    ids=["regression", "tokens", "windows"],
)
def test_predictions_that_are_not_simply_right_or_wrong_are_refused(logits, labels, message):
    scored = score_logits(logits, labels)
    with pytest.raises(ValueError, match=message):
        correct(scored.preds, scored.target, 2)


def test_predictions_and_targets_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2,\) and targets of shape \(2, 1\)"):
        correct(tensor([0, 1]), tensor([[0], [1]]), 2)


def test_only_a_sample_that_was_right_can_turn_wrong():
    now, before = tensor([True, True, False, False]), tensor([True, False, True, False])
    assert not_turned_wrong(now, before).tolist() == [True, True, False, True]


@given(NUMBERS, NUMBERS, NUMBERS, st.just(0.0) | MARGINS, st.booleans(), st.booleans())
def test_the_bar_parts_what_is_lower_from_what_is_not(value, best, base, tolerance, gains, absolute):
    by_hand = (lower if gains else no_higher)(value, best, base, tolerance, absolute=absolute)
    clause = Clause("loss", gains=gains, absolute=absolute)
    assert clause.bar(totals(best), totals(base), tolerance).passes(value) is by_hand
    assert clause.holds(totals(value), totals(best), totals(base), tolerance) is by_hand


@given(NUMBERS, NUMBERS, NUMBERS, MARGINS)
def test_a_bar_is_the_best_or_the_tolerated_base_whichever_is_higher(best, base, value, tolerance):
    bar = Clause("loss").bar(totals(best), totals(base), tolerance)
    assert bar.value == (max(best, base + tolerance * abs(base)) if tolerance else best)


def test_a_number_that_is_none_passes_no_bar():
    assert not Bar(1.0, reached_is_enough=True).passes(math.nan)


SCORE = st.builds(
    SimpleNamespace, loss=st.sampled_from([0.5, 1.0, 1.5]), metric=st.sampled_from([-0.5, -0.8, -1.0, -1.5])
)
ACCURACY = MulticlassAccuracy(3)


@given(SCORE, SCORE, SCORE, st.sampled_from([0.0, 0.5]))
def test_the_loss_or_the_metric_or_both_decide(score, best, base, tolerance):
    loss = lower(score.loss, best.loss, base.loss, tolerance)
    metric = (score.metric, best.metric, base.metric, tolerance)
    assert Rule(tolerance=tolerance).gains(score, best, base) == loss
    by_metric = Rule(tolerance=tolerance, metric=ACCURACY, criterion="metric")
    assert by_metric.gains(score, best, base) == lower(*metric, absolute=True)
    both = Rule(tolerance=tolerance, metric=ACCURACY, criterion="loss_and_metric")
    assert both.gains(score, best, base) == (loss and no_higher(*metric, absolute=True))


@pytest.mark.parametrize(
    ("loss", "metric", "accepted"),
    [(0.9, -0.8, True), (0.9, -0.9, True), (0.9, -0.7, False), (1.0, -0.9, False), (1.1, -0.9, False)],
)
def test_by_loss_and_metric_a_lower_loss_counts_unless_the_metric_drops(loss, metric, accepted):
    best = SimpleNamespace(loss=1.0, metric=-0.8)
    rule = make_rule("loss_and_metric", ACCURACY, 0.5, 0.0)
    assert rule.gains(SimpleNamespace(loss=loss, metric=metric), best, best) is accepted


@pytest.mark.parametrize("criterion", ["metric", "loss_and_metric"])
@pytest.mark.parametrize(("metric", "accepted"), [(-0.71, True), (-0.65, False)])
def test_the_tolerance_is_a_difference_of_the_metric(metric, accepted, criterion):
    base, best = SimpleNamespace(loss=1.0, metric=-0.8), SimpleNamespace(loss=1.0, metric=-0.9)
    rule = Rule(tolerance=0.125, metric=ACCURACY, criterion=criterion)
    # As a share of the metric it would be 0.1.
    assert rule.gains(SimpleNamespace(loss=0.9, metric=metric), best, base) is accepted
    assert rule.gains(SimpleNamespace(loss=0.9, metric=-0.6875), best, base)


@pytest.mark.parametrize(
    "rule", [Rule(), Rule(metric=ACCURACY, criterion="metric"), Rule(metric=ACCURACY, criterion="loss_and_metric")]
)
def test_what_was_not_measured_to_the_end_has_lost(rule):
    base = SimpleNamespace(loss=1.0, metric=-0.5)
    assert not rule.gains(SimpleNamespace(loss=None, metric=None), base, base)


@pytest.mark.parametrize(
    ("value", "accepted"), [(-0.95, False), (-0.9, True), (-0.89, True), (-0.875, True), (-0.8, False)]
)
def test_a_metric_turned_around_may_drop_by_the_tolerance(value, accepted):
    scores = (SimpleNamespace(metric=number) for number in (value, -0.9, -0.9375))
    assert Clause("metric", absolute=True).holds(*scores, 0.0625) is (accepted or value < -0.9)


@pytest.mark.parametrize(
    ("loss", "best", "worth"),
    [(1.05, 1.0, True), (1.2, 1.0, False), (2.1, 2.0, True), (-0.95, -1.0, True), (-0.8, -1.0, False)],
)
def test_parts_are_worth_a_look_below_the_factor_times_the_best(loss, best, worth):
    assert inspection_bar(best, 1.1).passes(loss) is worth


def test_a_block_at_the_bound_is_not_inspected():
    assert not inspection_bar(1.0, 1.5).passes(1.5)


@given(NUMBERS, NUMBERS)
def test_a_factor_of_one_inspects_only_what_is_lower(loss, best):
    assert inspection_bar(best, 1.0).passes(loss) is (loss < best)


@pytest.mark.parametrize("majority", [-0.1, 1, 1.5, math.nan])
def test_a_majority_outside_its_range_is_refused(majority):
    with pytest.raises(ValueError, match=rf"`majority` in \[0, 1\).* got {majority}"):
        Rule(majority=majority)


@pytest.mark.parametrize("tolerance", [-0.1, math.inf, math.nan])
def test_a_tolerance_that_is_no_number_of_at_least_zero_is_refused(tolerance):
    with pytest.raises(ValueError, match=rf"`tolerance` .* got {tolerance}"):
        Rule(tolerance=tolerance)


def test_a_metric_without_a_direction_is_refused():
    remedy = r"`class Mine\(MeanMetric\): higher_is_better = True`"  # an instance does not let it be set
    with pytest.raises(ValueError, match=f"higher is better, got MeanMetric.*{remedy}"):
        Rule(metric=MeanMetric(), criterion="metric")


@pytest.mark.parametrize(
    ("metric", "got"),
    [
        ("accuracy", "str"),
        (len, "builtin_function_or_method"),
        (MulticlassAccuracy, "the class MulticlassAccuracy"),
        (MetricCollection([MulticlassAccuracy(2)]), "MetricCollection"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("criterion", ["loss", "metric"])
def test_what_is_no_metric_is_refused_by_its_type(metric, got, criterion):
    with pytest.raises(ValueError, match=rf"Expected `metric` to be a torchmetrics.Metric, got {got}\."):
        make_rule(criterion, metric)


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        ("metrics", "'loss', 'metric', 'loss_and_metric' .* got 'metrics'"),
        (None, "'loss', 'metric', 'loss_and_metric' .* got None"),
        ("metric", "criterion='metric', got none"),
    ],
)
def test_a_criterion_that_names_nothing_is_refused(criterion, message):
    with pytest.raises(ValueError, match=message):
        make_rule(criterion, None, 0.5, 0.0)


def test_a_vote_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="`vote` to be 'loss' or 'prediction', got 'metric'"):
        make_rule("loss", None, 0.5, 0.0, "metric")


@pytest.mark.parametrize("criterion", ["metric", "loss_and_metric"])
def test_a_criterion_about_a_metric_needs_a_metric(criterion):
    with pytest.raises(ValueError, match=f"Expected a metric with criterion='{criterion}', got none"):
        Rule(criterion=criterion)


def test_a_metric_may_be_measured_beside_a_criterion_that_does_not_ask_for_it():
    base, worse = SimpleNamespace(loss=1.0, metric=-0.8), SimpleNamespace(loss=0.9, metric=-0.1)
    assert Rule(metric=ACCURACY).gains(worse, base, base)
    assert not Rule(metric=ACCURACY).goes_by_metric
    assert Rule(metric=ACCURACY, criterion="loss_and_metric").goes_by_metric


def test_a_criterion_that_does_not_exist_is_refused_by_the_rule():
    with pytest.raises(ValueError, match=r"`criterion` to be one of .* got 'luck'"):
        Rule(criterion="luck")


def test_a_row_is_a_new_rule(monkeypatch):
    """The loss may tie where the metric gains."""
    monkeypatch.setitem(CRITERIA, "metric_first", (Clause("metric", absolute=True), Clause("loss", gains=False)))
    rule = make_rule("metric_first", ACCURACY, 0.0, 0.0)
    base = SimpleNamespace(loss=1.0, metric=-0.8)
    assert rule.gains(SimpleNamespace(loss=1.0, metric=-0.9), base, base)
    assert not rule.gains(SimpleNamespace(loss=1.1, metric=-0.9), base, base)
    assert rule.loss_clause.bar(base, base, 0.0) == Bar(1.0, reached_is_enough=True)


def test_the_four_ways_to_name_a_criterion():
    accuracy, error = MulticlassAccuracy(3), MeanSquaredError()
    assert make_rule("loss", accuracy, 0.25, 0.5) == Rule(0.25, 0.5, accuracy)
    assert make_rule("loss", None, 0.25, 0.5) == Rule(0.25, 0.5, None)
    assert make_rule("metric", accuracy, 0.25, 0.5).metric is accuracy
    assert make_rule(error, accuracy, 0.25, 0.5).metric is error
    assert make_rule("loss_and_metric", accuracy, 0.25, 0.5) == Rule(0.25, 0.5, accuracy, criterion="loss_and_metric")


def test_the_share_of_right_labels_stands_beside_the_loss_where_no_metric_is_named():
    rule = make_rule("loss_and_metric", None, 0.0, 0.0)
    assert rule.criterion == "loss_and_metric"
    assert isinstance(rule.metric, LabelAccuracy)


@pytest.mark.parametrize("criterion", ["loss", "metric", "loss_and_metric", ACCURACY])
def test_every_criterion_takes_either_vote(criterion):
    assert make_rule(criterion, ACCURACY, 0.5, 0.0).vote == "loss"
    assert make_rule(criterion, ACCURACY, 0.5, 0.0, "prediction").vote == "prediction"
