"""Files of a run that are broken in any one entry: the others are reported, and the broken one is named or harmless."""

import json
import random

import numpy as np
import pytest

from axformer_lightning.report import page
from axformer_lightning.report.records import read_records
from tests.report.runs import write_run

FILES = ["results.json", "environment.json", "damage.json", "state.json", "pareto.json", ".resume/run.json"]
OTHERS = {
    "state.json": {"state": "done", "reason": "x"},
    "pareto.json": [{"encoder_size": 0.5, "file_size": 0.5, "metrics": {"accuracy": 0.8}, "artifact": "model"}] * 2,
}
VALUES = [None, "text", -1, 0, [], {}, float("nan"), 1e300]


def broken(value, rng):
    """Return a value with one entry replaced or left out, and where."""
    places = []

    def walk(inner, place):
        places.append(place)
        for key in range(len(inner)) if isinstance(inner, list) else inner if isinstance(inner, dict) else ():
            walk(inner[key], [*place, key])

    walk(value, [])
    *above, last = rng.choice(places[1:])
    inner = value
    for key in above:
        inner = inner[key]
    if isinstance(inner, dict) and rng.random() < 0.3:
        del inner[last]
    else:
        inner[last] = rng.choice(VALUES)
    return value, [*above, last]


@pytest.fixture
def runs(tmp_path):
    for seed in range(2):
        write_run(tmp_path / str(seed), "tolerance=0", seed=seed)
    return tmp_path


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("name", FILES)
def test_one_broken_entry_never_stops_the_report_of_the_others(name, runs, undrawn):
    path, rng = runs / "0" / name, random.Random(0)
    whole = json.loads(path.read_text()) if path.exists() else OTHERS[name]
    for _ in range(6):
        value, where = broken(json.loads(json.dumps(whole)), rng)
        path.write_text(json.dumps(value))
        try:
            page.write_report(runs)
        except Exception as error:
            pytest.fail(f"{where} of {name}: {error!r}")
        assert {record.name: record.state for record in read_records(runs)}["1"] == "done"


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
