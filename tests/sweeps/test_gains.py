"""Gains over tasks and seeds, by hand."""

import pytest

from axformer_lightning.sweeps import gains


def report(accuracy, loss, error, parameters):
    return {
        "metrics": {"accuracy": accuracy, "f1": 0.0}, "loss": loss, "calibration_error": error,
        "encoder_parameters": parameters,
    }  # fmt: skip


def run(task, base, **rules):
    """One dense model; a report is (accuracy, loss, calibration error, parameters), and each rule has two or three."""
    entries = {"dense": base, **rules}
    listed = [
        {"name": name, "report": report(*cut), "retrained": report(*again) if again else None}
        | ({"searched": report(*searched[0])} if searched else {})
        for name, (cut, again, *searched) in entries.items()
    ]
    return {"task": task, "metric": "accuracy", "rules": listed}


DENSE = (0.80, 0.50, 0.10, 1000)


def test_gains_are_differences_from_the_dense_model_of_the_same_run():
    searched = (0.6, 1.0, 0.0, 1000), (0.65, 0.1, 0.3, 900)
    one = run(
        "mrpc", (DENSE, (0.81, 0.4, 0.1, 1000), searched[0]),
        loss=((0.82, 0.45, 0.06, 900), (0.80, 0.5, 0.1, 900), searched[1]),
    )  # fmt: skip
    two = run(
        "mrpc", ((0.70, 1.0, 0.2, 1000), (0.70, 0.4, 0.1, 1000), searched[0]),
        loss=((0.74, 0.8, 0.2, 700), (0.73, 1, 0, 700), searched[1]),
    )  # fmt: skip
    (gain,) = gains([one, two])
    assert (gain.task, gain.rule, gain.runs) == ("mrpc", "loss", 2)
    expected = {
        "searched": (5.0, 0.0), "metric": (3.0, 2**0.5), "retrained": (1.0, 8**0.5), "loss": (-15.0, 50**0.5),
        "calibration_error": (-2.0, 8**0.5), "parameters": (-20.0, 200**0.5),
    }  # fmt: skip
    assert {name: (spread.mean, spread.deviation) for name, spread in gain.spreads.items()} == {
        name: (pytest.approx(mean), pytest.approx(deviation)) for name, (mean, deviation) in expected.items()
    }


def test_over_all_tasks_each_counts_once_and_rules_that_miss_one_are_left_out():
    better, worse = ((0.84, 0.5, None, 900), None), ((0.78, 0.5, None, 900), None)
    dense = ((0.80, 0.5, None, 1000), None)
    runs = [run("a", dense, loss=better, metric=better), run("a", dense, loss=better), run("b", dense, loss=worse)]
    *each, both = gains(runs)
    assert [(gain.task, gain.rule, gain.runs) for gain in each] == [
        ("a", "loss", 2),
        ("a", "metric", 1),
        ("b", "loss", 1),
    ]
    assert (both.task, both.rule, both.runs) == ("all tasks", "loss", 2)
    assert both.spreads["metric"].mean == pytest.approx((4 - 2) / 2)
    assert both.spreads["metric"].deviation == pytest.approx(18**0.5)
    assert both.spreads["retrained"] is both.spreads["searched"] is both.spreads["calibration_error"] is None


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_model_that_has_diverged_leaves_the_other_columns_their_numbers(loss):
    diverged = run("mrpc", (DENSE, None), loss=((0.5, loss, 0.1, 900), None))
    well = run("mrpc", (DENSE, None), loss=((0.7, 0.5, 0.1, 900), None))
    (gain,) = gains([diverged, well])
    assert gain.spreads["metric"].mean == pytest.approx(-20)
    assert f"{gain.spreads['loss']}" == "no number"
