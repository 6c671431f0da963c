"""`python -m axformer_lightning.benchmark` on a tiny model and invented rows in GLUE's official layout."""

import json
import math
import runpy
from itertools import islice

import pytest
import torch
from matplotlib.image import imread

from axformer_lightning.anatomy import LayerPlan
from axformer_lightning.artifacts import save_pretrained
from axformer_lightning.benchmark import costs, main
from axformer_lightning.benchmark.command import command
from axformer_lightning.costs import LatencyTable
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_
from axformer_lightning.sweeps.search_cost import search_costs
from axformer_lightning.tasks import TASKS, load_model, load_rows, texts_of
from axformer_lightning.vocabulary import trim_vocabulary_
from tests.benchmark.conftest import LENGTH, ROWS, TINY

EXACT = ["exhaustive", "+ batches by length", "+ replay", "+ shared blocks", "+ first token", "+ exact early rejection"]

pytestmark = pytest.mark.xdist_group("benchmark")  # one directory serves all


@pytest.fixture
def search(run, directory):
    return lambda *options, **others: run(
        "search", "--model", directory / "model", "--majority", "0", *options, **others
    )


@pytest.fixture
def growth(run, directory):
    return lambda *options: run("growth", "--model", directory / "model", *options)


@pytest.mark.slow
def test_a_search_is_measured_step_by_step(search, tmp_path, capsys):
    options = ["--samples", 12, "--batch-tokens", 120, "--out", tmp_path / "search.json"]
    results = search(*options)
    assert json.loads((tmp_path / "search.json").read_text()) == results
    assert (results["task"], results["samples"], results["device"]) == ("mrpc", 12, "cpu, 1 threads")
    found = {step["step"]: step for step in results["steps"]}
    assert list(found) == [*EXACT, "+ statistical stop"]
    assert [found[name]["differing"] for name in EXACT] == [0] * len(EXACT)
    assert found[EXACT[0]]["layer_tokens"] > found[EXACT[-1]]["layer_tokens"]
    head, _, *rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in found]
    assert {row.count("|") for row in rows} == {head.count("|")}


@pytest.mark.parametrize("key", ["", ":some"])
def test_rows_are_those_of_the_file(search, tmp_path, key, monkeypatch):
    monkeypatch.setattr(costs, "search_costs", lambda *args, **kwargs: islice(search_costs(*args, **kwargs), 1))
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"some": [3, 1, 2]} if key else [3, 1, 2]))
    results = search("--rows", f"{path}{key}")
    assert results["samples"] == 3
    # The reference procedure pads each of three samples to all tokens, in each of two layers.
    step = results["steps"][0]
    assert step["exhaustive_layer_tokens"] == step["candidates"] * 3 * LENGTH * 2


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        ({"some": [1]}, ":other", r"Expected the key 'other' in '.*rows.json', got \['some'\]"),
        ([1], ":other", r"Expected the key 'other' in '.*rows.json', got no keys"),
        ({"some": [1]}, "", r"Expected a list of row numbers in .*, got \{'some'.*FILE.json:KEY"),
        ([], "", r"Expected a list of row numbers in .*, got \[\]"),
        ([1, "2"], "", r"Expected a list of row numbers in .*, got \[1, '2'\]"),
        ([1, ROWS], "", rf"Expected row numbers of 0 to {ROWS - 1} in .*, got 1 to {ROWS}\. Pass"),
        ([-1, 2], "", rf"Expected row numbers of 0 to {ROWS - 1} in .*, got -1 to 2\. Pass"),
    ],
)
def test_rows_that_are_not_there_are_named(search, tmp_path, content, key, message):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        search("--rows", f"{path}{key}")


@pytest.mark.slow
def test_growth_is_measured_and_drawn(growth, tmp_path, capsys):
    out, plot = tmp_path / "growth.json", tmp_path / "growth.png"
    results = growth("--sizes", "40,20", "--layers", "1,2", "--samples", 20, "--plot", plot, "--out", out)
    assert json.loads(out.read_text()) == results
    assert [(point["samples"], point["candidates"]) for point in results["samples"]] == [(20, 2), (40, 2)]
    assert [(point["layers"], point["candidates"]) for point in results["layers"]] == [(1, 1), (2, 2)]
    for points in (results["samples"], results["layers"]):
        less, more = (point["layer_tokens"] for point in points)
        assert more > 1.5 * less
    assert imread(plot).ndim == 3
    assert "One candidate per layer" in capsys.readouterr().out


def test_layers_need_no_model(run):
    results = run("growth", "--layers", "2", "--samples", "4")
    assert [point["candidates"] for point in results["layers"]] == [2]
    assert results["samples"] == []


def test_random_rows_are_repeated_and_the_same_every_time(growth):
    one, two = (growth("--sizes", ROWS + 1, "--random")["samples"][0] for _ in range(2))
    assert one["layer_tokens"] == two["layer_tokens"] > 0


def test_more_rows_than_there_are_have_to_be_asked_for(search, growth, tmp_path):
    message = rf"Expected at most {ROWS} samples, the rows of train, got {ROWS + 1}\. Pass fewer, or --random"
    with pytest.raises(ValueError, match=message):
        search("--samples", ROWS + 1)
    for options in (["--sizes", f"4,{ROWS + 1}"], ["--sizes", "4", "--layers", "1", "--samples", ROWS + 1]):
        with pytest.raises(ValueError, match=message):
            growth(*options, "--out", tmp_path / "growth.json")
        assert not (tmp_path / "growth.json").exists()  # nothing was measured in vain


def test_what_cannot_be_measured_is_refused(run, search, growth, tmp_path):
    with pytest.raises(ValueError, match=r"Expected a task of \[.*\], got 'nothing'"):
        search("--samples", 1, task="nothing")
    with pytest.raises(ValueError, match=r"Expected a task with a label for each sample, one of .*, got 'squad'"):
        search("--samples", 1, task="squad")
    with pytest.raises(ValueError, match=r"Expected `--sizes` or `--layers` or both, got neither"):
        growth()
    with pytest.raises(ValueError, match=r"Expected `--model` with `--sizes`, got none"):
        run("growth", "--sizes", "1")
    with pytest.raises(ValueError, match=r"Expected an existing directory for '.*', got none. Create it first"):
        search("--samples", 1, "--out", tmp_path / "nowhere" / "search.json")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"Expected a GPU that torch can use for `--device cuda`, got none"):
            search("--samples", 1, "--device", "cuda")


@pytest.mark.parametrize("wrong", [["--samples", "0"], ["--samples", "x"], [], ["--samples", "1", "--rows", "f.json"]])
def test_wrong_arguments_are_refused_by_the_command(search, wrong, capsys):
    with pytest.raises(SystemExit):
        search(*wrong)
    assert "--samples" in capsys.readouterr().err


@pytest.mark.slow
def test_rules_are_compared_and_summed_up(run, directory, tmp_path, capsys):
    found = {}
    for seed in (0, 1):
        found[seed] = run(
            *("rules", "--model", directory / "model", "--seed", seed, "--search-fraction", 0.4, "--retrain-epochs", 1),
            *("--rules", "published,loss_soft", "--out", tmp_path / f"{seed}.json"),
        )
    results = found[0]
    assert json.loads((tmp_path / "0.json").read_text()) == results
    assert (results["metric"], results["samples"], results["seed"]) == ("accuracy", ROWS * 0.4, 0)
    assert [result["name"] for result in results["rules"]] == ["dense", "published", "loss_soft"]
    dense, _, loss = results["rules"]
    assert loss["accepted"] > 0
    assert loss["report"]["encoder_parameters"] < dense["report"]["encoder_parameters"]
    assert dense["retrained"]["loss"] != dense["report"]["loss"]
    assert found[1]["rules"][1:] != results["rules"][1:]  # other rows were held out
    capsys.readouterr()
    summed = main(["summary", str(tmp_path / "0.json"), str(tmp_path / "1.json"), "--out", str(tmp_path / "sum.json")])
    assert json.loads((tmp_path / "sum.json").read_text()) == summed
    assert [(gain["task"], gain["rule"], gain["runs"]) for gain in summed["gains"]] == [
        ("mrpc", "published", 2),
        ("mrpc", "loss_soft", 2),
    ]
    head, _, *rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {head.count("|")}


def test_a_comparison_of_rules_goes_on_where_it_was_killed(run, directory, tmp_path, monkeypatch):
    out = tmp_path / "rules.json"
    options = ("rules", "--model", directory / "model", "--retrain-epochs", 1, "--out", out, "--resume", "--rules")
    first = run(*options, "published,loss_soft")
    trained = []
    monkeypatch.setattr("axformer_lightning.benchmark.rules.train_again", lambda *args, **kwargs: trained.append(args))
    whole = run(*options, "published,loss_soft,loss_sweeps")
    assert [result["name"] for result in whole["rules"]] == ["dense", "published", "loss_soft", "loss_sweeps"]
    assert whole["rules"][:3] == first["rules"]
    assert len(trained) == 1
    assert json.loads(out.read_text()) == whole
    assert run(*options, "published")["rules"] == whole["rules"][:2]
    assert json.loads(out.read_text()) == whole  # what was not asked for again is not lost
    with pytest.raises(ValueError, match=r"same run with --resume, got another one: it differs in \['seed', 'rows'\]"):
        run(*options, "published", "--seed", 3)
    assert json.loads(out.read_text()) == whole


@pytest.mark.parametrize("content", ["{", "[]", '{"task": "mrpc"}'])
def test_only_files_of_rules_are_summed_up(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"Expected a file that `rules --out` has written, got '{path}'"):
        main(["summary", str(path)])


def test_rules_decide_by_the_rows_of_a_file(run, directory, tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(list(range(12))))
    options = ("--model", directory / "model", "--rows", path, "--rules", "loss", "--out", tmp_path / "rules.json")
    results = run("rules", *options)
    assert results["samples"] == 12
    assert [result["retrained"] for result in results["rules"]] == [None, None]
    path.write_text(json.dumps(list(range(12, 24))))
    with pytest.raises(ValueError, match=r"got another one: it differs in \['rows'\]"):
        run("rules", *options, "--resume")


def test_rules_and_metrics_that_are_not_there_are_named(run, directory):
    with pytest.raises(ValueError, match=r"Expected `--rules` out of \['published', .*\], got \['nothing'\]"):
        run("rules", "--model", directory / "model", "--rules", "loss,nothing")
    with pytest.raises(ValueError, match=r"a metric of the task, \['accuracy', 'f1'\], got 'nothing'"):
        run("rules", "--model", directory / "model", "--metric", "nothing")


@pytest.fixture
def artifacts(directory, tmp_path):
    """Paths of a dense and of a cut model."""
    model, _ = load_model(TASKS["mrpc"], pretrained=directory / "model", max_length=LENGTH)
    save_pretrained(model, tmp_path / "dense")
    removed = LayerPlan(heads_removed=(1,)), LayerPlan(feed_forward="removed")
    save_pretrained(apply_plan_(model, Plan("bert", 2, 2, 24, removed)), tmp_path / "cut")
    return str(tmp_path / "dense"), str(tmp_path / "cut")


@pytest.mark.slow
def test_saved_models_are_timed_with_the_same_tricks(artifacts, tmp_path, capsys):
    options = ["--length", "32", "--batch-sizes", "1,2", "--threads", "1", "--rounds", "2", "--seconds", "0"]
    whole = main(["latency", *artifacts, *options, "--out", str(tmp_path / "latency.json")])
    assert json.loads((tmp_path / "latency.json").read_text()) == json.loads(json.dumps(whole))
    head, _, *rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0] for row in rows] == [f"| {path}" for path in artifacts]
    assert {row.count("|") for row in rows} == {head.count("|")}
    first_token = main(["latency", *artifacts, *options, "--first-token-only"])
    for results in (whole, first_token):
        dense, cut = results["models"]
        assert dense["times_faster"] == dense["of_ideal"] == {"batch1": 1.0, "batch2": 1.0}
        assert cut["times_faster"]["batch2"] == dense["latency_ms"]["batch2"] / cut["latency_ms"]["batch2"]
        assert cut["macs_per_sample"] < dense["macs_per_sample"]
        for one in (dense, cut):
            for batch, (low, high) in one["spread_ms"].items():
                assert low <= one["latency_ms"][batch] <= high
    for less, more in zip(first_token["models"], whole["models"], strict=True):
        assert less["macs_per_sample"] < more["macs_per_sample"]
        assert less["encoder_parameters"] == more["encoder_parameters"]


@pytest.mark.parametrize(("busy", "told"), [(0.0, 0), (math.inf, 2)], ids=["no device has room", "each has"])
def test_a_device_with_room_for_more_is_told_for_each_engine(artifacts, capsys, monkeypatch, busy, told):
    monkeypatch.setattr("axformer_lightning.sweeps.latencies.BUSY", busy)
    options = ["--length", "8", "--batch-sizes", "2", "--threads", "1", "--rounds", "1", "--seconds", "0"]
    main(["latency", artifacts[0], *options, "--engines", "PyTorch float,PyTorch bfloat16"])
    assert capsys.readouterr().out.count("The device has room for more") == told


def test_engines_are_timed_beside_each_other(artifacts):
    pytest.importorskip("onnxruntime")
    options = ["--length", "8", "--batch-sizes", "2", "--threads", "1", "--rounds", "2", "--seconds", "0"]
    names = ["PyTorch float", "PyTorch bfloat16"]
    results = main(["latency", *artifacts, *options, "--engines", ",".join(names)])
    engines = [(one["engine"], one["model"]) for one in results["models"]]
    assert engines == [(engine, path) for engine in names for path in artifacts]
    for one in (results["models"][0], results["models"][2]):
        assert one["of_ideal"] == {"batch2": 1.0}  # the dense model of each engine
    assert results["twice"].keys() == {*names}
    with pytest.raises(ValueError, match=r"with\s`--first-token-only` or a GPU, got \['ONNX float'\]"):
        main(["latency", *artifacts, "--engines", "ONNX float", "--first-token-only"])
    with pytest.raises(ValueError, match=r"Expected engines out of \['PyTorch float', .*\], got \['TensorRT'\]"):
        main(["latency", *artifacts, "--engines", "TensorRT"])


def test_models_are_deployed_each_with_its_own_tokenizer(run, directory, tmp_path):
    model, tokenizer = load_model(TASKS["mrpc"], pretrained=directory / "model", max_length=LENGTH)
    save_pretrained(model, tmp_path / "dense")
    tokenizer.save_pretrained(tmp_path / "dense")
    rows = load_rows("mrpc", directory / "glue")
    texts = [text for part in (rows.train, rows.dev[""]) for text in texts_of(part)]
    trim_vocabulary_(model, tokenizer, texts).save_pretrained(tmp_path / "trimmed")
    save_pretrained(model, tmp_path / "trimmed")
    options = ["--shapes", "1x8", "--rounds", "1", "--engines", "PyTorch float"]
    dense, trimmed = run("deploy", tmp_path / "dense", tmp_path / "trimmed", *options)["points"]
    assert trimmed["size_bytes"] < dense["size_bytes"]
    assert trimmed["loss"] == pytest.approx(dense["loss"], abs=1e-5)
    assert trimmed["metrics"] == dense["metrics"]
    (tmp_path / "trimmed" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"no tokenizer.json in '.*trimmed'. Save"):
        run("deploy", tmp_path / "dense", tmp_path / "trimmed", *options)


@pytest.mark.parametrize(
    ("task", "names", "said"),
    [
        ("mrpc", ("equivalent", "not_equivalent"), "in this order, got"),
        ("mnli", TASKS["mnli"].labels, "for 2 labels, got .* with a head for 3"),
    ],
)
def test_models_for_other_labels_are_not_deployed(run, tmp_path, task, names, said):
    model, tokenizer = load_model(TASKS[task], config=TINY, texts=["a boat"], max_length=8)
    model.config.id2label = dict(enumerate(names))
    save_pretrained(model, tmp_path / "dense", tokenizer=tokenizer)
    with pytest.raises(ValueError, match=rf"{said}.*another `--task`\."):
        run("deploy", tmp_path / "dense", "--engines", "PyTorch float")


@pytest.mark.parametrize("options", [["--max-length", "97", "--shapes", "1x8"], ["--shapes", "1x8,1x97"]])
def test_more_tokens_than_a_model_reads_are_not_deployed(run, directory, tmp_path, options):
    model, tokenizer = load_model(TASKS["mrpc"], pretrained=directory / "model", max_length=LENGTH)
    save_pretrained(model, tmp_path / "dense", tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"at most 96 tokens by `--max-length` and `--shapes`, .* got 97\."):
        run("deploy", tmp_path / "dense", "--engines", "PyTorch float", *options)


@pytest.mark.parametrize("task", ["squad", None])
def test_models_without_a_head_of_the_task_s_kind_are_not_deployed(run, tmp_path, task):
    model, tokenizer = load_model(TASKS[task or "mrpc"], config=TINY, texts=["a boat"], max_length=8)
    save_pretrained(model if task else model.bert, tmp_path / "dense", tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"kind, 'ForSequenceClassification', got .*/dense' with Bert"):
        run("deploy", tmp_path / "dense", "--engines", "PyTorch float")


@pytest.mark.slow
def test_random_plans_are_predicted_and_timed(directory, tmp_path, capsys):
    """Only that they are: how well is no matter of a test."""
    options = ["--length", "4", "--batch-size", "2", "--plans", "2", "--seconds", "0"]
    outputs = ["--out", str(tmp_path / "out.json"), "--table", str(tmp_path / "table.json")]
    results = main(["prediction", str(directory / "model"), *options, *outputs])
    assert json.loads((tmp_path / "out.json").read_text()) == results
    dense, *cut = results["plans"]
    assert dense["shares"] == {"macs": 1, "predicted": 1, "measured": 1}
    assert len(cut) == 2
    table = LatencyTable.load(tmp_path / "table.json")
    assert table.predict_ms([LayerPlan()] * 2) == dense["predicted_ms"]
    assert capsys.readouterr().out.count("\n| ") == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "kept"),
    [("PyTorch float", "torch"), pytest.param("ONNX float", "ONNX float", marks=pytest.mark.exhaustive)],
)
def test_the_line_of_an_engine_predicts_other_plans(directory, tmp_path, capsys, engine, kept):
    """Only that it does: how well is no matter of a test. Of ONNX it takes an export for each plan."""
    pytest.importorskip("onnxruntime")
    options = ["--length", "4", "--batch-size", "2", "--plans", "2", "--fitted", "9", "--seconds", "0"]
    options += ["--engine", engine, "--table", str(tmp_path / "table.json")]
    results = main(["prediction", str(directory / "model"), *options])
    assert (results["engine"], results["fitted"], len(results["plans"])) == (kept, 9, 3)
    table = LatencyTable.load(tmp_path / "table.json")
    assert table.conditions.engine == kept
    assert table.predict_ms([LayerPlan()] * 2) == results["plans"][0]["predicted_ms"]
    off = [abs(ran["predicted_ms"] / ran["measured_ms"] - 1) for ran in results["plans"]]
    assert results["worst_off"] == max(off)
    assert "on average" in capsys.readouterr().out


@pytest.mark.parametrize("more", [[], ["--attention", "eager"], ["--training"]])
def test_hard_layers_are_timed_beside_soft_ones(directory, tmp_path, capsys, more):
    options = ["--model", str(directory / "model"), "--shapes", "1x4,2x8", "--layers", "1,2", "--k", "3", *more]
    out = tmp_path / "out.json"
    results = main(["hard-attention", *options, "--rounds", "2", "--threads", "1", "--out", str(out)])
    assert json.loads(out.read_text()) == results
    cases = [(0, False), (1, False), (1, True), (2, False), (2, True)]
    assert [(found["hard_layers"], found["by_kernel"]) for found in results["times"]] == cases * 2
    assert [found["length"] for found in results["times"]] == [4] * 5 + [8] * 5
    assert all(found["low"] <= found["ratio"] <= found["high"] for found in results["times"])
    head, _, *rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in (head, *rows)} == {7}


def test_hard_layers_are_timed_of_a_model_of_any_task(directory, tmp_path):
    load_model(TASKS["mnli"], config=TINY, texts=["a boat"], max_length=8)[0].save_pretrained(tmp_path)  # no tokenizer
    options = ["--model", str(tmp_path), "--layers", "1", "--rounds", "2", "--training"]
    assert len(main(["hard-attention", *options, "--shapes", "1x4"])["times"]) == 3
    with pytest.raises(ValueError, match=f"1 to 96, .* got {LENGTH + 1}"):
        main(["hard-attention", *options, "--shapes", f"1x4,1x{LENGTH + 1}"])


@pytest.mark.parametrize("shapes", ["128", "1x2x3", "axb", ""])
def test_shapes_that_are_none_are_refused(shapes, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["hard-attention", "--shapes", shapes])
    assert "expected" in capsys.readouterr().err


SEARCH = ["search", "--samples", "1", "--max-length", "8"]
MRPC = ["--task", "mrpc", "--data-dir", "{glue}"]
ROWS_OF = [*MRPC, "--model", "{model}", "--max-length", "8", "--rows"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*SEARCH, *MRPC, "--model", "{empty}"], "Expected a directory or a hub id with a model, got '{empty}'"),
        ([*SEARCH, *MRPC, "--model", "{empty}/no"], "Expected a directory or a hub id with a model, got '{empty}/no'"),
        ([*SEARCH, "--task", "nothing", "--model", "x"], "Expected a task of ["),
        (["deploy", "--task", "nothing", "{empty}"], "Expected a task of ["),
        ([*SEARCH, "--task", "mrpc", "--data-dir", "{empty}", "--model", "x"], "Expected the official file"),
        ([*SEARCH, *MRPC, "--model", "x", "--out", "{empty}/no/x.json"], "Expected an existing directory for"),
        ([*SEARCH, *MRPC, "--model", "x", "--out", "{empty}"], "Expected a file to write, got the directory '{empty}'"),
        (["prediction", "x", "--table", "{empty}/no/x.json"], "Expected an existing directory for"),
        ([*SEARCH[:-1], "600", *MRPC, "--model", "{model}"], "Expected `--max-length` of at most 96"),
        (["rules", *MRPC, "--model", "{model}", "--metric", "auc"], "Expected `--metric` to be a metric of the task"),
        (["rules", *MRPC, "--model", "{model}", "--search-fraction", "2"], "set `--search-fraction` between 0 and 1"),
        (["budget", *MRPC, "--model", "{model}", "--ratios", "1e9", "--max-length", "8"], "Expected ratios above 1"),
        (["search", *ROWS_OF, "{empty}/no.json"], "No such file or directory"),
        (["search", *ROWS_OF, "{glue}/MRPC/dev.tsv"], "Expected JSON in '{glue}/MRPC/dev"),
        (["latency", "{empty}"], "not a directory written by"),
        (["prediction", "{empty}"], "{empty}"),
        (["hard-attention", "--model", "{empty}"], "{empty}"),
        (["summary", "{empty}/no.json"], "No such file or directory"),
        (["budgets-summary", "{glue}/MRPC/dev.tsv"], "Expected a file that `budget --out` has written"),
        (["summary", "{binary}"], "Expected a file that `rules --out` has written, got '{binary}'"),
        (["budgets-summary", "{binary}"], "Expected a file that `budget --out` has written, got '{binary}'"),
        (["search", *ROWS_OF, "{binary}"], "Expected JSON in '{binary}'"),
        (["latency", "{empty}", "{model}", "{empty}"], "Expected each directory once, got '{empty}' twice"),
    ],
)
def test_mistakes_of_the_user_are_said_in_a_line(directory, tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "plan.png").write_bytes(b"\x89PNG")
    places = {"empty": tmp_path, "glue": directory / "glue", "model": directory / "model"}
    places["binary"] = tmp_path / "plan.png"
    said = command([argument.format(**places) for argument in arguments])
    assert said == 1
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert words.format(**places) in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err


@pytest.mark.parametrize("ratios", ["0.5", "nan", "inf", "x", ""])
def test_ratios_that_are_none_are_refused_by_the_command(ratios, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        command(["budget", *MRPC, "--model", "x", "--ratios", ratios])
    assert "expected numbers above 1" in capsys.readouterr().err


def test_a_mistake_of_the_program_keeps_its_traceback(monkeypatch):
    def broken(arguments):
        raise KeyError("a slip of ours")

    monkeypatch.setattr("axformer_lightning.benchmark.command.main", broken)
    with pytest.raises(KeyError, match="a slip of ours"):
        command(["latency", "x"])


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_the_process_ends_with_the_status(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark", "summary", "nowhere.json"])
    with pytest.raises(SystemExit, match=r"^1$"):
        runpy.run_module("axformer_lightning.benchmark", run_name="__main__")
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_it_is_a_command(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark", "search", "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_module("axformer_lightning.benchmark", run_name="__main__")
    assert "--cache-memory" in capsys.readouterr().out


DATA = "--task demo --model nowhere"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"rules {DATA} --retrain-epochs -1", "--retrain-epochs: expected a whole number of at least 0, got '-1'"),
        (f"rules {DATA} --seed -1", "--seed: expected a whole number of at least 0, got '-1'"),
        (f"rules {DATA} --learning-rate nan", "--learning-rate: expected a number of at least 0, got 'nan'"),
        (f"budget {DATA} --epochs -1", "--epochs: expected a whole number of at least 0, got '-1'"),
        (f"budget {DATA} --tries -1", "--tries: expected a whole number of at least 0, got '-1'"),
        (f"growth {DATA} --cache-memory -1", "--cache-memory: expected a whole number of at least 0, got '-1'"),
        ("latency nowhere --seconds -1", "--seconds: expected a number of at least 0, got '-1'"),
        ("prediction nowhere --seconds nan", "--seconds: expected a number of at least 0, got 'nan'"),
        ("prediction nowhere --seed 1.5", "--seed: expected a whole number of at least 0, got '1.5'"),
    ],
)
def test_numbers_that_mean_nothing_are_refused_before_anything_is_read(line, said, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        command(line.split())
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rules", "budget"])
def test_what_is_to_be_resumed_has_to_be_named(name):
    with pytest.raises(ValueError, match=r"Expected `--out` with `--resume`, got none"):
        main([name, *DATA.split(), "--resume"])
