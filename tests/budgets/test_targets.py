"""Targets that cannot be are refused before anything runs."""

import pytest
from torchmetrics.classification import BinaryAccuracy

from axformer_lightning import shrink
from axformer_lightning.budgets import Budget, targets_of
from axformer_lightning.costs import Conditions, LatencyTable

pytestmark = [pytest.mark.one_implementation, pytest.mark.parametrize("family", ["bert"])]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"a target, one of \['encoder_size_ratio', .*'metric_floor'\], got none"),
        ({"encoder_size_ratio": 1}, "`encoder_size_ratio` to be a number above 1, got 1"),
        ({"macs_ratio": float("nan")}, "`macs_ratio` to be a number above 1, got nan"),
        ({"latency_ms": 0}, "`latency_ms` to be a number above 0, got 0"),
        (
            {"macs_ratio": 2, "latency_table": "t.json"},
            r"a target of time, .* `latency_table`, got \['macs_ratio'\] alone",
        ),
        ({"encoder_size_ratio": 1e6}, "`encoder_size_ratio` of at most .*, got 1e.*Norms stay, and take"),
        ({"file_size_ratio": 50}, "`file_size_ratio` of at most .*, got 50: Embeddings, norms and head stay"),
        ({"macs_ratio": 1e9, "tokens": 8}, "of at most .*: Embeddings and head stay, and take .* multiply-adds"),
        ({"macs_ratio": 2}, "`tokens` to be 1 to 64, got 128"),
        ({"macs_ratio": 2, "tokens": 8.5}, r"`tokens` to be a whole number of at least 1, got 8\.5"),
        ({"speedup": 2, "batch_size": "8"}, "`batch_size` to be a whole number of at least 1, got '8'"),
        ({"macs_ratio": 2, "effort": {"tries": 8}}, r"`effort` to be an Effort, got {'tries': 8}"),
        ({"metric_floor": 0.01}, "`metric=`, a torchmetrics metric, with `metric_floor`, got none"),
        ({"metric_floor": -1, "metric": BinaryAccuracy()}, "the most that the metric may lose, of at least 0, got -1"),
    ],
)
def test_targets_that_cannot_be_are_refused(model, state, tiny, options, message):
    before = state(model)
    with pytest.raises(ValueError, match=message):
        shrink(model, [tiny.batch()], **options)
    assert state(model) == before


def test_a_time_that_cannot_be_reached_is_refused_with_what_can(model):
    table = LatencyTable(
        Conditions.of(model, 1, 8), 3.0, {"attention": ((0, 0.0), (4, 1.0)), "feed_forward": ((0, 0.0), (48, 0.0))}
    )
    with pytest.raises(ValueError, match=r"`speedup` of at most 2, got 4: .* take 3 of 6 milliseconds"):
        targets_of(model, Budget({"speedup": 4, "latency_table": table}))
    with pytest.raises(ValueError, match="`latency_ms` of at least 3, got 2"):
        targets_of(model, Budget({"latency_ms": 2, "latency_table": table}))


def test_a_latency_table_of_another_model_is_refused(model):
    at = Conditions.of(model, 1, 8)
    other = LatencyTable(
        Conditions(**{**vars(at), "num_heads": 2}),
        3.0,
        {"attention": ((0, 0.0), (2, 1.0)), "feed_forward": ((0, 0.0), (48, 0.0))},
    )
    with pytest.raises(ValueError, match="of a model of this shape, got one of another: num_heads=2 instead of 4"):
        targets_of(model, Budget({"speedup": 1.2, "latency_table": other}))


def test_the_table_of_an_engine_or_machine_elsewhere_is_taken(model):
    at = Conditions(**{**vars(Conditions.of(model, 1, 8)), "engine": "ONNX float", "device": "another", "threads": 4})
    table = LatencyTable(at, 3.0, {"attention": ((0, 0.0), (4, 1.0)), "feed_forward": ((0, 0.0), (48, 0.0))})
    (target,) = targets_of(model, Budget({"speedup": 1.5, "latency_table": table}))
    assert "speedup" in str(target)


def test_another_batch_than_that_of_the_table_is_refused(model):
    blocks = {"attention": ((0, 0.0), (4, 1.0)), "feed_forward": ((0, 0.0), (48, 0.0))}
    given = {"speedup": 1.5, "latency_table": LatencyTable(Conditions.of(model, 1, 8), 3.0, blocks)}
    targets_of(model, Budget({**given, "batch_size": 1, "tokens": 8}))
    with pytest.raises(ValueError, match="a latency table with `tokens` 9, got one that was measured at 8"):
        targets_of(model, Budget({**given, "tokens": 9}))


def test_a_time_of_more_tokens_than_the_model_has_positions_is_refused_by_the_options_name(model):
    with pytest.raises(ValueError, match="Expected `tokens` to be 1 to"):
        targets_of(model, Budget({"speedup": 1.5, "tokens": 100_000}))


def test_a_latency_is_measured_where_no_table_is_given(model, monkeypatch):
    asked = []

    def measure(transformer, **options):
        asked.append(options)
        blocks = {"attention": ((0, 0.0), (4, 1.0)), "feed_forward": ((0, 0.0), (48, 0.0))}
        return LatencyTable(Conditions.of(transformer, 2, 5), 3.0, blocks)

    monkeypatch.setattr("axformer_lightning.budgets.targets.measure_latency", measure)
    (target,) = targets_of(model, Budget({"speedup": 1.5, "batch_size": 2, "tokens": 5}))
    assert asked == [{"batch_size": 2, "tokens": 5}]
    assert target.most == 4.0


def test_a_floor_needs_samples_and_one_prediction_of_each(model, tiny):
    batch = tiny.batch((5,) * 8)
    with pytest.raises(ValueError, match=r"at least 60 samples with `metric_floor`.*got 3 in that third"):
        shrink(model, [batch], metric_floor=0.1, metric=BinaryAccuracy())
