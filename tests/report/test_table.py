import copy
import io

import pytest
from rich.console import Console

from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.plan import Plan
from axformer_lightning.report import plan_summary, results_table, stages_table

RESULTS = {
    "task": "mrpc", "model": "a/model", "seed": 7, "device": "cpu", "accepted": 3,
    "baseline": {
        "metrics": {"accuracy": 0.8015, "matthews_correlation": -0.0512}, "parameters": 22_713_602,
        "encoder_parameters": 10_646_784, "size_bytes": 90_870_000, "macs_per_sample": 1_438_000_000,
        "latency_ms": {"batch1": 8.1, "batch32": 270.0},
    },
    "axformer": {
        "metrics": {"accuracy": 0.8137, "matthews_correlation": -0.0712}, "parameters": 22_713_602,
        "encoder_parameters": 5_323_392, "size_bytes": 72_696_000, "macs_per_sample": 719_000_000,
        "latency_ms": {"batch1": 9.72, "batch32": 200.0},
    },
    "search": {"candidates": 84}, "plan": "plan.json", "artifact": "model",
}  # fmt: skip
HARD = HardAttention(k=30)


def rows(results):
    table = results_table(results)
    return {str(name): list(map(str, cells)) for name, *cells in zip(*(c.cells for c in table.columns), strict=True)}


def printed(results):
    console = Console(file=io.StringIO(), width=100)
    console.print(results_table(results))
    return console.file.getvalue()


@pytest.fixture
def results():
    return copy.deepcopy(RESULTS)


def test_every_number_has_its_row(results):
    assert rows(results) == {
        "accuracy": ["80.15", "81.37", "+1.22"],
        "matthews_correlation": ["-5.12", "-7.12", "-2.00"],
        "parameters": ["22,713,602", "22,713,602", "same"],
        "encoder parameters": ["10,646,784", "5,323,392", "2.00x smaller"],
        "size on disk (MB)": ["90.87", "72.70", "1.25x smaller"],
        "MACs per sample (G)": ["1.44", "0.72", "2.00x fewer"],
        "latency, batch 1 (ms)": ["8.10", "9.72", "1.20x slower"],
        "latency, batch 32 (ms)": ["270.00", "200.00", "1.35x faster"],
    }


def test_an_encoder_of_which_nothing_is_left_is_said_to_be_gone(results):
    results["axformer"]["encoder_parameters"] = 0
    assert rows(results)["encoder parameters"] == ["10,646,784", "0", "all removed"]


def test_what_a_model_that_has_diverged_is_worth_is_left_out_and_the_other_stays_in_points(results):
    results["axformer"]["metrics"]["accuracy"] = float("nan")
    assert rows(results)["accuracy"] == ["80.15", "-", "-"]
    sizes = {"encoder_parameters": 1000, "size_bytes": 80_000}
    table = stages_table([{"stage": "x", "metrics": {"accuracy": value}, **sizes} for value in (0.8, float("nan"))])
    assert [str(cell) for cell in table.columns[1].cells] == ["80.00", "-"]


def test_few_multiply_adds_are_told_in_millions(results):
    results["baseline"]["macs_per_sample"] = 999_000_000
    assert rows(results)["MACs per sample (M)"] == ["999.00", "719.00", "1.39x fewer"]


@pytest.mark.parametrize("key", ["latency_ms", "metrics", "parameters", "size_bytes", "macs_per_sample"])
@pytest.mark.parametrize("absent", [dict.pop, lambda side, key: side.update({key: None})])
def test_what_neither_side_has_is_left_out(results, key, absent):
    expected = rows(results)
    for side in ("baseline", "axformer"):
        absent(results[side], key)
    actual = rows(results)
    assert 0 < len(actual) < len(expected)
    assert actual.items() <= expected.items()


@pytest.mark.parametrize("side", ["baseline", "axformer"])
def test_what_one_side_has_is_shown(results, side):
    del results[side]["parameters"], results[side]["metrics"]["accuracy"]
    column = ["baseline", "axformer"].index(side)
    for name, value in (("accuracy", ("81.37", "80.15")[column]), ("parameters", "22,713,602")):
        cells = rows(results)[name]
        assert cells[column] == cells[2] == "-"
        assert cells[1 - column] == value


def test_a_value_that_is_no_share_is_shown_as_it_is(results):
    results["baseline"]["metrics"]["loss"], results["axformer"]["metrics"]["loss"] = 1.5, 0.5
    assert rows(results)["loss"] == ["1.50", "0.50", "-1.00"]


def test_a_change_that_rounds_to_none_has_no_minus(results):
    results["baseline"]["metrics"]["loss"], results["axformer"]["metrics"]["loss"] = 1.5, 1.4999
    assert rows(results)["loss"] == ["1.50", "1.50", "+0.00"]


def test_a_threshold_is_shown_as_it_is(results):
    for side, value in (("baseline", 0.5), ("axformer", -0.25)):
        results[side]["metrics"]["best_f1_threshold"] = value
    assert rows(results)["best_f1_threshold"] == ["0.50", "-0.25", "-0.75"]


def test_the_title_names_the_run(results):
    assert printed(results).split("\n")[0].strip() == "mrpc, a/model, seed 7"
    del results["model"], results["seed"]
    assert printed(results).split("\n")[0].strip() == "mrpc"


def test_names_are_shown_as_they_are(results):
    results["model"] = "[red]m[/]"
    results["axformer"]["metrics"]["[bold]f1"] = 0.5
    assert "[red]m[/]" in printed(results)
    assert "[bold]f1" in printed(results)


@pytest.mark.parametrize("side", ["baseline", "axformer"])
def test_half_a_result_is_named(results, side):
    del results[side]
    with pytest.raises(ValueError, match=rf"of both 'baseline' and 'axformer', got none of \['{side}'\]"):
        results_table(results)


@pytest.mark.parametrize(
    ("layers", "summary"),
    [
        ([LayerPlan()], "Nothing was removed, and no layer got hard attention."),
        ([LayerPlan(hard_attention=HARD)], "Nothing was removed; hard attention (k=30) in layer 0."),
        ([LayerPlan(hard_attention=HARD)] * 3, "Nothing was removed; hard attention (k=30) in all layers."),
        (
            [LayerPlan(), *[LayerPlan(heads_removed=(1, 3), hard_attention=HARD)] * 3],
            "Removed 6 of 48 heads; hard attention (k=30) in layers 1, 2 and 3.",
        ),
        (
            [LayerPlan("removed"), LayerPlan(feed_forward="removed", heads_removed=(0,))],
            "Removed 1 of 2 feed-forward blocks, 1 of 2 attention blocks and 1 of the 12 remaining heads.",
        ),
        (
            [LayerPlan(feed_forward="removed"), LayerPlan(neurons_removed=((0, 700), (800, 1100))), LayerPlan()],
            "Removed 1 of 3 feed-forward blocks and 1,000 of the 3,072 remaining neurons.",
        ),
        ([LayerPlan("removed", (), "removed")], "Removed 1 of 1 feed-forward blocks and 1 of 1 attention blocks."),
        (
            [LayerPlan("removed", hard_attention=HARD), LayerPlan()],
            "Removed 1 of 2 attention blocks.",
        ),
        (
            [LayerPlan(hard_attention=HardAttention(5, renormalize=True)), LayerPlan(hard_attention=HARD)],
            "Nothing was removed; hard attention (k=5, renormalized) in layer 0 and hard attention (k=30) in layer 1.",
        ),
    ],
)
def test_a_plan_in_one_sentence(layers, summary):
    assert plan_summary(Plan("bert", len(layers), 12, 1536, tuple(layers))) == summary
