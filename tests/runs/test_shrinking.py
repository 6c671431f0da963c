"""Runs that go down to a budget."""

import json
import math

import pytest
from transformers import BertConfig, BertModel

import train
from axformer_lightning import load_pretrained
from axformer_lightning.anatomy import anatomy_of, layers_left
from axformer_lightning.costs import LatencyTable, count_encoder_parameters
from axformer_lightning.evidence import Predictions
from axformer_lightning.plan import Plan
from axformer_lightning.runs import shrinking
from axformer_lightning.timing import measure_latency
from tests.runs.runs import QUIET, SMALL, configuration, no_latencies, outcome

OPTIONS = ["task=mrpc", *(option for option in SMALL if not option.startswith("pruning."))]
OPTIONS += ["pruning=budget", "pruning.tries=1", "pruning.table_samples=8", "retrain_epochs=1"]


@pytest.fixture
def go(write_glue, tmp_path, monkeypatch):
    """Runs train.py in this process."""
    monkeypatch.setattr(train.reporting, "latencies_ms", no_latencies)
    data = write_glue("mrpc")

    def go(*overrides, name="run"):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        return train.train(configuration(*OPTIONS, f"data_dir={data}", *overrides), directory), directory

    return go


@pytest.mark.slow
@QUIET
def test_the_encoder_is_half_as_large_unless_asked_otherwise(go):
    results, directory = go()
    assert results["baseline"]["encoder_parameters"] >= 2 * results["axformer"]["encoder_parameters"]
    points = json.loads((directory / "pareto.json").read_text())
    assert points[0]["artifact"] == "finetuned"
    assert points[0]["metrics"] == results["baseline"]["metrics"]
    assert points[-1]["artifact"] == "model"
    assert points[-1]["metrics"] == results["axformer"]["metrics"]
    assert points[-1]["metrics_as_cut"].keys() == points[-1]["metrics"].keys()
    if points[-1]["retraining"]["kept"] == "before":
        assert points[-1]["metrics_as_cut"] == points[-1]["metrics"]
    assert (directory / "pareto.png").read_bytes()[1:4] == b"PNG"
    tables = json.loads((directory / "damage.json").read_text())
    assert len(tables) == len(points) - 1
    for row in tables[0]:
        assert row["damage"][0] == 0
        assert row["widths"][-1] is None
    assert {(row["layer"], row["block"]) for row in tables[0]} == {(0, "attention"), (0, "feed_forward")}
    assert not any("table" in point for point in points)


@pytest.mark.slow
@QUIET
def test_what_is_reported_of_a_cut_model_changes_no_training(go, monkeypatch):
    options = ["retrain_keep=last"]
    _, one = go(*options, name="one")
    seen, report = [], shrinking.dev_metrics

    def unseen(module, data, trainer, folder):
        seen.append(folder)
        return {} if folder is None else report(module, data, trainer, folder)

    monkeypatch.setattr(shrinking, "dev_metrics", unseen)
    _, other = go(*options, name="other")
    assert seen == [None, other / "model"]
    assert (one / "model" / "model.safetensors").read_bytes() == (other / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
@QUIET
def test_every_ratio_is_a_model_of_one_chain_of_cuts(go):
    results, directory = go("pruning.ratios=[2,1.3]")
    models = [load_pretrained(directory / name) for name in ("finetuned", "model-1.3x", "model")]
    dense, first, last = map(count_encoder_parameters, models)
    assert {name: found["encoder_parameters"] for name, found in results["models"].items()} == {"model-1.3x": first}
    assert results["models"]["model-1.3x"]["latency_ms"] == {"batch1": 1.0}
    for point in json.loads((directory / "pareto.json").read_text()):
        if "artifact" in point:
            said = Predictions.load(directory / point["artifact"])
            assert float(said.value("accuracy")) == pytest.approx(point["metrics"]["accuracy"], abs=1e-6)
            if point["artifact"] == "model-1.3x":
                assert results["models"]["model-1.3x"]["metrics"] == point["metrics"]
    assert dense >= 1.3 * first
    assert dense >= 2 * last
    for larger, smaller in zip(layers_left(models[1]), layers_left(models[2]), strict=True):
        for block in anatomy_of(models[0]).blocks:
            assert set(block.left(smaller) or ()) <= set(block.left(larger) or ())
    _, as_cut = go("pruning.ratios=[2,1.3]", "retrain_epochs=0", name="as_cut")
    assert layers_left(load_pretrained(as_cut / "model")) == layers_left(models[2])  # which no retraining has changed


@pytest.mark.slow
@QUIET
def test_a_time_is_predicted_by_a_table_that_the_run_measures_first(go):
    options = ["pruning.speedup=1.05", "pruning.batch_size=2", "pruning.tokens=16", "retrain_epochs=0"]
    _, directory = go(*options)
    table = LatencyTable.load(directory / "latency.json")
    assert (table.conditions.batch_size, table.conditions.tokens) == (2, 16)
    dense, cut = (table.predict_ms(layers_left(load_pretrained(directory / name))) for name in ("finetuned", "model"))
    assert cut <= dense / 1.05


@pytest.mark.slow
@QUIET
@pytest.mark.parametrize(
    ("room", "ends_in", "time"),
    [("shrinking", "shrink_", 1), ("stages", "retrain_model", 2), ("reporting", "costs", 1)],
)
def test_a_run_that_breaks_off_goes_on_to_the_same_end(go, monkeypatch, room, ends_in, time):
    options = ["pruning.ratios=[1.3,2]", "resume=true"]
    _, whole = go(*options, name="whole")
    calls, original = [], getattr(getattr(train, room), ends_in)

    def fail_once(*args, **options):
        calls.append(ends_in)
        if len(calls) == time:
            raise InterruptedError(ends_in)
        return original(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(getattr(train, room), ends_in, fail_once)
        with pytest.raises(InterruptedError, match=ends_in):
            go(*options)
    _, resumed = go(*options)
    assert outcome(resumed) == outcome(whole)
    for name in ("pareto.json", "damage.json"):
        assert (resumed / name).read_text() == (whole / name).read_text()


@pytest.mark.slow
@QUIET
def test_a_run_in_a_used_directory_leaves_nothing_of_the_ratios_of_the_one_before(go):
    go("pruning.ratios=[1.3,1.6,2]", "retrain_epochs=0")
    _, directory = go("pruning.ratios=[1.3,2]", "retrain_epochs=0")
    assert sorted(path.name for path in directory.glob("model*")) == ["model", "model-1.3x"]
    go("retrain_dense=true")
    assert [path.name for path in directory.glob("model*")] == ["model"]
    assert not any((directory / name).exists() for name in ("pareto.json", "pareto.png", "damage.json"))


@pytest.mark.slow
@QUIET
def test_the_dense_baseline_of_a_run_with_int8_stays_in_floats(go):
    results, directory = go("retrain_dense=true", "int8=default", "int8.tolerance=9")
    assert not any(layer.int8 for layer in layers_left(load_pretrained(directory / "model")))
    assert "int8" not in results


@pytest.mark.slow
@QUIET
@pytest.mark.parametrize("base", [[*OPTIONS, "pruning.ratios=[1.3,2]"], ["task=mrpc", *SMALL, "pruning.tolerance=9"]])
def test_no_training_before_the_search_for_int8_uses_the_search_set(write_glue, tmp_path, monkeypatch, base):
    used = {}
    monkeypatch.setattr(train.stages, "_fit", lambda run, stage, *how: used.update({stage: run.data.train_on_all}))
    monkeypatch.setattr(train.reporting, "latencies_ms", no_latencies)
    options = ["int8=default", "int8.tolerance=9", "int8_retrain_epochs=1", "retrain_on_all=true", "retrain_keep=last"]
    cfg = configuration(*base, *options, "retrain_epochs=1", f"data_dir={write_glue('mrpc')}")
    results = train.train(cfg, tmp_path)
    assert used.pop("int8_retrain1")
    assert len(used) > 1
    assert not any(used.values())
    assert results["axformer"]["search_metrics"] is None


@pytest.mark.slow
@QUIET
def test_numbers_that_are_none_are_null_and_the_page_has_the_run(go, monkeypatch):
    monkeypatch.setattr(train.stages, "search_metrics", lambda *_: {"loss": math.nan, "accuracy": 0.5})
    results, directory = go("pruning.ratios=[1.3,2]")

    def refuse(word):
        raise AssertionError(word)

    for name in ("results.json", "pareto.json", "damage.json"):
        json.loads((directory / name).read_text(), parse_constant=refuse)
    assert results["retraining"][0]["after"] == {"loss": None, "accuracy": 0.5}
    assert "1.3x" in (directory / "report.md").read_text()


@pytest.mark.slow_but_first
@QUIET
@pytest.mark.parametrize(("how", "repaired"), [("continue", True), ("rewind", False)])
def test_a_model_that_is_rewound_has_lost_its_repairs_and_says_so(go, how, repaired):
    _, directory = go(f"pruning.retrain={how}", "retrain_keep=last")
    assert Plan.load(directory / "plan.json").repaired == repaired
    assert load_pretrained(directory / "model").axformer_plan.repaired == repaired


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pruning.encoder_size_ratio=1e6", "Expected `encoder_size_ratio` of at most"),
        ("pruning.ratios=[2,1e6]", "Expected `encoder_size_ratio` of at most"),
        ("pruning.speedup=2 pruning.tokens=49", "Expected `pruning.tokens` to be 1 to 48, got 49"),
        ("pruning.metric_floor=0.1 data.max_search_samples=8", "at least 60 samples .*`pruning.metric_floor`.* got 8"),
    ],
)
def test_what_cannot_be_reached_is_refused_before_fine_tuning(go, tmp_path, words, said):
    with pytest.raises(ValueError, match=said):
        go(*words.split())
    assert not (tmp_path / "run" / "finetuned").exists()


@pytest.mark.slow
def test_another_models_latency_table_is_refused_before_fine_tuning(go, tmp_path):
    model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8))
    measure_latency(model, batch_size=1, tokens=4, timer=lambda *_: 0.001).save(tmp_path / "table.json")
    with pytest.raises(ValueError, match="latency table of a model of this shape"):
        go("pruning.speedup=1.5", f"pruning.latency_table={tmp_path / 'table.json'}")
    assert not (tmp_path / "run" / "finetuned").exists()
