"""A search that was killed goes on from its journal, and comes to the same plan."""

import json
import logging
from dataclasses import replace

import pytest
from torchmetrics.classification import MulticlassAccuracy

from axformer_lightning.anatomy import HardAttention, anatomy_of
from axformer_lightning.criteria import Rule
from axformer_lightning.search import Pruning, SearchSettings, find, search_plan
from axformer_lightning.search.baseline import Baseline
from axformer_lightning.surgery import apply_plan_
from tests.models import make_batch, make_model

LENGTHS = (3, 14, 9, 5, 12, 7)
SETTINGS = SearchSettings(HardAttention(4), Pruning(5, 2.0), Rule(majority=0))


@pytest.fixture
def family():
    return "bert"


@pytest.fixture
def batches(tiny):
    return [tiny.batch(LENGTHS, seed=seed) for seed in (5, 6)]


@pytest.fixture
def evaluated(monkeypatch):
    """Every set of candidates that is evaluated, the base as ()."""
    seen = []
    measure, measure_base = Baseline.measure, find.measure_baseline

    def record(self, candidates, *args):
        seen.append(candidates)
        return measure(self, candidates, *args)

    def record_base(*args):
        seen.append(())
        return measure_base(*args)

    monkeypatch.setattr(Baseline, "measure", record)
    monkeypatch.setattr(find, "measure_baseline", record_base)
    return seen


def killed_after(count):
    """An `on_trial` by which a search dies when ``count`` trials are in its journal."""
    told = []

    def on_trial(trial):
        told.append(trial)
        if len(told) == count:
            raise KeyboardInterrupt

    return on_trial


@pytest.fixture
def search(tiny, batches):
    def run(journal=None, settings=SETTINGS, **options):
        model = tiny.model("bert", seed=1, num_hidden_layers=2)
        return search_plan(model, model, batches, settings, journal=journal, **options)

    return run


@pytest.fixture(scope="module")
def uninterrupted():
    """What the search comes to that nothing interrupts."""
    model = make_model("bert", seed=1, num_hidden_layers=2)
    return search_plan(model, model, [make_batch(LENGTHS, seed=seed) for seed in (5, 6)], SETTINGS)


@pytest.fixture
def journal(search, tmp_path):
    """The journal of a search that was killed after its seventh trial."""
    path = tmp_path / "logs" / "search.jsonl"
    with pytest.raises(KeyboardInterrupt):
        search(path, on_trial=killed_after(7))
    return path


def test_the_first_search_keeps_every_trial(search, uninterrupted, tmp_path):
    trials, on_disk = [], []

    def on_trial(trial):
        trials.append(trial)
        on_disk.append(len((tmp_path / "search.jsonl").read_text().splitlines()) - 1)

    plan, counts = search(tmp_path / "search.jsonl", on_trial=on_trial)
    assert on_disk == [*range(1, len(trials) + 1)]
    header, *lines = map(json.loads, (tmp_path / "search.jsonl").read_text().splitlines())
    assert set(header) == {"format", "fingerprint"}
    assert len(lines) == len(plan.decisions) == counts.candidates > 15
    for line, trial in zip(lines, trials, strict=True):
        expected = {**vars(trial.candidate), **vars(trial.score), "accepted": trial.accepted}
        assert expected.items() <= line.items()
    assert lines[-1]["layer_tokens"] == counts.layer_tokens
    assert (plan, counts) == uninterrupted


@pytest.mark.parametrize("after", [1, 3, 12])
def test_a_killed_search_repeats_nothing_and_ends_alike(search, uninterrupted, tmp_path, evaluated, after):
    plan, counts = uninterrupted
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "search.jsonl", on_trial=killed_after(after))
    told, begun = [], len(evaluated)
    assert search(tmp_path / "search.jsonl", on_trial=told.append) == (plan, counts)
    assert evaluated[begun] == ()  # the base, by which the journal is recognized
    assert len(evaluated) - begun == 1 + counts.candidates - after
    assert len(told) == counts.candidates


def test_a_search_may_be_killed_often(search, uninterrupted, journal, evaluated):
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            search(journal, on_trial=killed_after(len(journal.read_text().splitlines()) + 1))
    assert len(evaluated) == 3 + 6
    assert search(journal) == uninterrupted


def test_a_finished_search_is_only_read(search, tmp_path, evaluated):
    first = search(tmp_path / "search.jsonl")
    text = (tmp_path / "search.jsonl").read_text()
    evaluated.clear()
    assert search(tmp_path / "search.jsonl") == first
    assert evaluated == [()]
    assert (tmp_path / "search.jsonl").read_text() == text


def test_the_time_of_killed_processes_counts(search, journal):
    lines = journal.read_text().splitlines()
    long = [lines[0], *(json.dumps(json.loads(line) | {"seconds": 1000.0 + i}) for i, line in enumerate(lines[1:]))]
    journal.write_text("\n".join([*long, ""]))
    assert 1006 < search(journal)[1].seconds < 1100
    assert 0 < search()[1].seconds < 100


def test_a_metric_is_taken_over_too(search, tmp_path, evaluated):
    settings = SearchSettings(
        None, Pruning(5, 2.0), Rule(0, 0.1, MulticlassAccuracy(3, average="micro"), criterion="metric")
    )
    expected = search(settings=settings)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "search.jsonl", settings, on_trial=killed_after(3))
    evaluated.clear()
    assert search(tmp_path / "search.jsonl", settings) == expected
    assert len(evaluated) == 1 + expected[1].candidates - 3


@pytest.mark.parametrize("left", [1, 30, -2, -1])
def test_a_torn_last_line_is_evaluated_again(search, uninterrupted, journal, evaluated, left):
    *whole, last, _ = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([*whole, last[:left] if left != -1 else last]))
    evaluated.clear()
    assert search(journal) == uninterrupted
    assert evaluated.count(()) == 1
    assert len(evaluated) == 1 + uninterrupted[1].candidates - 6


def test_a_last_line_whose_bytes_never_reached_the_disk_is_evaluated_again(search, uninterrupted, journal):
    *whole, last, _ = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([*whole, b"\0" * len(last), b""]))
    assert search(journal) == uninterrupted


@pytest.mark.parametrize("text", ["", "{", "\n", '{"format": "axformer-search 1", "fingerprint": "00'])
def test_a_journal_without_a_header_is_begun_anew(search, uninterrupted, tmp_path, text):
    (tmp_path / "search.jsonl").write_text(text)
    assert search(tmp_path / "search.jsonl") == uninterrupted
    assert len((tmp_path / "search.jsonl").read_text().splitlines()) == 1 + len(uninterrupted[0].decisions)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("other", ["weights", "data", "settings", "plan", "history", "metric"])
def test_the_journal_of_another_search_is_begun_anew(tiny, batches, journal, evaluated, caplog, other):
    model, settings = tiny.model("bert", seed=1, num_hidden_layers=2), SETTINGS
    if other == "weights":
        model = tiny.model("bert", seed=2, num_hidden_layers=2)
    elif other == "data":
        batches = batches[::-1]
    elif other == "settings":
        settings = SearchSettings(HardAttention(4), Pruning(5, 2.0), Rule(majority=0, tolerance=0.01))
    elif other == "metric":
        rule = Rule(0, 0, MulticlassAccuracy(3), criterion="metric")
        settings = SearchSettings(HardAttention(4), Pruning(5, 2.0), rule)
    else:
        plan = search_plan(model, model, batches, SETTINGS)[0]
        apply_plan_(model, plan if other == "plan" else replace(plan, layers=anatomy_of(model).dense_layers()))
    evaluated.clear()
    with caplog.at_level(logging.WARNING):
        _, counts = search_plan(model, model, batches, settings, journal=journal)
    assert f"{journal} is of another search: it is started anew." in caplog.text
    assert len(evaluated) == 1 + counts.candidates
    assert len(journal.read_text().splitlines()) == 1 + counts.candidates


@pytest.mark.parametrize("bad", ["{", "[]", '{"kind": "head"}'])
def test_a_broken_line_in_the_middle_is_refused_by_its_number(search, journal, bad):
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:3], bad, *lines[4:], ""]))
    with pytest.raises(ValueError, match=r"line 4 of the journal '.*search.jsonl'.*Delete the file"):
        search(journal)


@pytest.mark.parametrize(("change", "named"), [({"layer": 7}, "Expected .* in line 4"), ({"accepted": 5}, "accepted=")])
def test_a_line_that_this_search_cannot_have_written_is_refused(search, journal, change, named):
    lines = journal.read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | change)
    journal.write_text("\n".join([*lines, ""]))
    with pytest.raises(ValueError, match=named):
        search(journal)
