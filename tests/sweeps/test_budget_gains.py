"""Differences at equal size over tasks and seeds, by hand."""

import pytest
from matplotlib.image import imread

from axformer_lightning.sweeps.budget_gains import draw_size_gains, size_gains, size_gains_figure


def entry(method, ratio, accuracy, loss=0.5, reached=None, searched=0.5, retrained=None, seconds=0.0):
    def report(accuracy, loss):
        return {"metrics": {"accuracy": accuracy, "f1": 0.0}, "loss": loss}

    return {
        "method": method, "ratio": ratio, "reached": reached or ratio, "report": report(accuracy, loss),
        "searched": report(0.0, searched), "cpu_seconds": seconds,
        "retrained": None if retrained is None else report(retrained, 1.0),
    }  # fmt: skip


def run(task, dense, *results):
    return {"task": task, "metric": "accuracy", "results": [dense, *results]}


RUNS = [
    run("rte", entry("dense", 1, 0.6, 0.5, searched=0.4), entry("ours", 2, 0.62, 0.4, 2.1, 0.2, seconds=3.0)),
    run("rte", entry("dense", 1, 0.7, 1.0, searched=0.4), entry("ours", 2, 0.68, 1.1, 2.3, 0.3, seconds=5.0)),
    run("mrpc", entry("dense", 1, 0.8), entry("ours", 2, 0.83), entry("ours", 5, 0.7), entry("taylor", 2, 0.7)),
]


def spread(mean, deviation):
    return pytest.approx(mean), None if deviation is None else pytest.approx(deviation)


def spread_of(gain, name):
    return (mean := gain.spreads[name]) and (mean.mean, mean.deviation)


def test_differences_are_from_the_dense_model_of_the_same_run():
    gain = size_gains(RUNS[:2])[0]
    assert (gain.task, gain.method, gain.ratio, gain.runs) == ("rte", "ours", 2, 2)
    assert (gain.reached, gain.cpu_seconds) == (pytest.approx(2.2), 4.0)
    assert {name: spread_of(gain, name) for name in gain.spreads} == {
        "metric": spread(0, 8**0.5), "loss": spread(-5, 450**0.5), "searched": spread(-37.5, 312.5**0.5),
        "retrained": None,
    }  # fmt: skip


def test_over_all_tasks_each_counts_once_and_what_one_lacks_is_left_out():
    found = {(gain.task, gain.method, gain.ratio): gain for gain in size_gains(RUNS)}
    assert [*found] == [
        ("rte", "ours", 2), ("mrpc", "ours", 2), ("mrpc", "ours", 5), ("mrpc", "taylor", 2), ("all tasks", "ours", 2),
    ]  # fmt: skip
    assert found["all tasks", "ours", 2].runs == 2
    assert spread_of(found["all tasks", "ours", 2], "metric") == spread(1.5, 4.5**0.5)


def test_both_are_compared_after_training_once_more():
    dense, ours = entry("dense", 1, 0.8, retrained=0.9), entry("ours", 2, 0.7, retrained=0.95)
    (gain,) = size_gains([run("rte", dense, ours)])
    assert spread_of(gain, "retrained") == spread(5.0, None)
    assert spread_of(gain, "metric") == spread(-10.0, None)
    (axes,) = size_gains_figure([gain]).axes
    assert "both retrained" in axes.get_ylabel()


def test_the_picture_has_a_panel_for_each_task_and_a_line_for_each_method():
    figure = size_gains_figure(size_gains(RUNS))
    assert [axes.get_title() for axes in figure.axes] == ["rte, 2 runs", "mrpc, 1 run", "mean of 2 tasks"]
    rte, mrpc, _ = figure.axes
    zero, ours = rte.lines[:2]
    assert [*zero.get_ydata()] == [0, 0]
    assert ([*ours.get_xdata()], [*ours.get_ydata()]) == ([pytest.approx(2.2)], [pytest.approx(0)])
    assert [text.get_text() for text in mrpc.get_xticklabels()] == ["2", "5"]
    low, high = mrpc.get_xlim()
    assert low < 2 < 5 < high


def test_the_picture_is_written(tmp_path):
    draw_size_gains(size_gains(RUNS), tmp_path / "sizes.png")
    assert imread(tmp_path / "sizes.png").ndim == 3
