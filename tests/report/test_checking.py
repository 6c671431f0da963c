"""Files of a run that are broken in any one entry: the others are reported, and the broken one is named or harmless."""

import json
import random

import numpy as np
import pytest
import yaml

from axformer_lightning.report import page
from axformer_lightning.report.records import read_records
from tests.report.runs import write_json, write_run

FILES = [
    "results.json", "environment.json", "damage.json", "state.json", "pareto.json", "plan.json", ".resume/run.json",
    ".hydra/config.yaml", ".hydra/overrides.yaml",
]  # fmt: skip
POINT = {"encoder_size": 0.5, "file_size": 0.5, "metrics": {"accuracy": 0.8}}
POINTS = [{**POINT, "artifact": name} for name in ("finetuned", "model-2x", "model")]
MODELS = {"model-2x": {"metrics": {"accuracy": 0.8}, "parameters": 2000, "latency_ms": {"batch1": 1.5}}}
GONE = object()
VALUES = [None, "text", -1, 0, [], {}, float("nan"), 1e300, GONE]


def read(text):
    """Return what a file holds; JSON is YAML, too, but takes long as such."""
    return json.loads(text) if text.startswith(("{", "[")) else yaml.safe_load(text)


def places(value, above=()):
    """Yield where each entry is, of the first of a list and of all of a mapping."""
    for key in [0][: len(value)] if isinstance(value, list) else value if isinstance(value, dict) else ():
        yield (*above, key)
        yield from places(value[key], (*above, key))


def broken(text, place, new):
    """Return a file with one entry replaced, or left out."""
    value = inner = read(text)
    *above, last = place
    for key in above:
        inner = inner[key]
    if new is GONE:
        del inner[last]
    else:
        inner[last] = new
    return json.dumps(value)


@pytest.fixture
def runs(tmp_path):
    for seed in range(2):
        directory = tmp_path / str(seed)
        write_run(directory, "tolerance=0", seed=seed)
        kept = json.loads((directory / ".resume" / "run.json").read_text())
        kept["configuration"]["pruning"]["ratios"] = [2, 3]
        results = json.loads((directory / "results.json").read_text())
        write_json(directory / ".resume" / "run.json", kept)
        write_json(directory / ".hydra" / "config.yaml", kept["configuration"])
        write_json(directory / "results.json", {**results, "models": MODELS})
        write_json(directory / "pareto.json", POINTS)
        write_json(directory / "state.json", {"state": "done", "reason": "x"})
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_one_broken_entry_never_stops_the_report_of_the_others(every, name, runs, undrawn):
    path, rng = runs / "0" / name, random.Random(0)
    if name == ".hydra/config.yaml":  # which is read where there is no record to resume by
        (runs / "0" / ".resume" / "run.json").unlink()
    whole = path.read_text(encoding="utf-8")
    for place in list(places(read(whole)))[::every]:
        new = rng.choice(VALUES)
        path.write_text(broken(whole, place, new))
        try:
            page.write_report(runs)
        except Exception as error:
            pytest.fail(f"{place} of {name}, {'left out' if new is GONE else repr(new)}: {error!r}")
        assert {record.name: record.state for record in read_records(runs)}["1"] == "done"


def test_costs_of_models_that_are_none_are_named(runs):
    path = runs / "0" / "results.json"
    whole = path.read_text()
    for place, new in ((("models",), []), (("models", "model-2x"), 1), (("models", "model-2x", "latency_ms"), "x")):
        path.write_text(broken(whole, place, new))
        (note,) = read_records(runs)[0].notes
        assert f"Expected {'.'.join(place)} to be of type dict" in note
    path.write_text(broken(whole, ("models",), None))
    assert read_records(runs)[0].is_done


def test_a_run_that_left_nothing_of_the_encoder_is_done(runs):
    """Of a family whose norms go with their blocks."""
    for name, place in (
        ("results.json", ("axformer", "encoder_parameters")),
        ("pareto.json", (1, "encoder_size")),
    ):
        path = runs / "0" / name
        path.write_text(broken(path.read_text(), place, 0))
    first = read_records(runs)[0]
    assert (first.is_done, first.notes) == (True, ())
    assert [model.costs["encoder"] for model in first.models] == [0, 0]
    path = runs / "0" / "results.json"
    path.write_text(broken(path.read_text(), ("baseline", "encoder_parameters"), 0))
    assert "Expected baseline.encoder_parameters to be above 0" in read_records(runs)[0].notes[0]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("results.json", '{"baseline": {"metrics": {"accuracy": NaN}}}', "NaN is not a JSON number"),
        ("results.json", "[]", "Expected results to be of type dict"),
        (
            "damage.json",
            '[[{"layer": 0, "block": "attention", "widths": [1], "damage": []}]]',
            "a damage for each of 1",
        ),
        ("plan.json", "{}", "plan.json"),
        (".resume/run.json", "{}", "Expected finished to be of type bool"),
    ],
)
def test_what_cannot_be_read_is_named(name, text, words, runs):
    (runs / "0" / name).write_text(text)
    first = read_records(runs)[0]
    assert any(words in note and name in note for note in first.notes)
    assert first.is_done is (name != "results.json")


def test_predictions_that_cannot_be_read_are_named(runs, undrawn):
    path = runs / "0" / "model" / "dev_predictions.npz"
    path.write_bytes(b"")
    page.write_report(runs)
    assert "Cannot read the predictions" in (runs / "report.md").read_text()
    np.savez(path, labels=np.zeros(3))
    page.write_report(runs)
