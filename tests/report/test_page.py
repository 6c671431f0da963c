import itertools
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from axformer_lightning.evidence import Predictions, compare, gains_resampled
from axformer_lightning.report.__main__ import main
from axformer_lightning.report.cells import cells_of, shared_overrides
from axformer_lightning.report.charts import front, intervals
from axformer_lightning.report.comparisons import compare_cells
from axformer_lightning.report.numbers import numbers_of
from axformer_lightning.report.page import DRAWN, try_report, write_report
from axformer_lightning.report.records import read_records
from axformer_lightning.report.sections import fronts, overview
from tests.report.runs import predictions, write_json, write_run, write_unfinished

drawn_once = pytest.mark.xdist_group("page")


def write_sweep(tmp_path):
    """Two settings and their baseline, three seeds; one run of them was killed, one failed."""
    for seed in range(3):
        write_run(tmp_path / "a" / str(seed), "tolerance=0", seed=seed, dense=0.7, cut=0.95)
        write_run(tmp_path / "dense" / str(seed), seed=seed, dense=0.7, cut=0.75, retrain_dense=True)
    write_run(tmp_path / "b" / "0", "tolerance=0.05", seed=0, dense=0.7, cut=0.5)
    write_unfinished(tmp_path / "b" / "1", "tolerance=0.05", seed=1)
    write_unfinished(tmp_path / "b" / "2", "tolerance=0.05", seed=2)
    write_json(tmp_path / "b" / "2" / "state.json", {"state": "failed", "reason": "ValueError: <no> such | file"})
    return tmp_path


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The same, with its report; tests only read it."""
    folder = write_sweep(tmp_path_factory.mktemp("sweep"))
    (folder / "report").mkdir()
    for name in ("removed-99.png", "mine.png"):  # of a former page, and of the user
        (folder / "report" / name).write_bytes(b"")
    write_report(folder, floor=1.0)
    return folder


def cells(directory):
    return {cell.setting: cell for cell in cells_of(read_records(directory))[0]}


class Page(HTMLParser):
    """Collects tags and what they refer to, and fails where tags do not nest."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.tags, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src", "xlink:href", "srcset") if name in given]
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_cells_hold_runs_that_differ_in_the_seed_and_no_number_of_an_unfinished_one(sweep):
    found = cells(sweep)
    assert {*found} == {"dense, same recipe", "tolerance=0", "tolerance=0.05"}
    assert [outcome.record.seed for outcome in found["tolerance=0"].outcomes] == [0, 1, 2]
    assert [record.state for record in found["tolerance=0.05"].unfinished] == ["unfinished", "failed"]
    numbers = numbers_of(found["tolerance=0.05"])
    assert (numbers.points.low, numbers.points.deviation) == (None, None)
    assert numbers_of(found["tolerance=0"]).smaller.mean == 2


def test_results_that_were_half_written_do_not_count(sweep):
    path = sweep / "a" / "1" / "results.json"
    path.write_text(path.read_text()[:-10])
    records = {record.name: record for record in read_records(sweep)}
    assert records["a/1"].state == "unfinished"
    assert "results.json" in records["a/1"].notes[0]
    assert [outcome.record.seed for outcome in cells(sweep)["tolerance=0"].outcomes] == [0, 2]


def test_a_state_that_says_done_without_results_is_not_done(sweep):
    write_json(sweep / "b" / "1" / "state.json", {"state": "done"})
    assert {record.name: record.state for record in read_records(sweep)}["b/1"] == "unfinished"


def test_results_of_a_run_that_was_begun_anew_do_not_count(sweep):
    path = sweep / "a" / "0" / ".resume" / "run.json"
    path.write_text(path.read_text().replace('"finished": true', '"finished": false'))
    write_json(sweep / "a" / "0" / "state.json", {"state": "running", "reason": ""})
    assert {record.name: record.state for record in read_records(sweep)}["a/0"] == "running"


def test_a_run_that_writes_its_page_is_done(sweep):
    write_json(sweep / "a" / "0" / "state.json", {"state": "running", "reason": ""})
    assert read_records(sweep / "a" / "0")[0].is_done


def test_each_setting_is_compared_with_both_dense_baselines(sweep):
    rows, notes = compare_cells([*cells(sweep).values()])
    assert notes == []
    found = {(row.setting, row.baseline): row.comparison for row in rows}
    assert {*found} == {(s, b) for s in ("tolerance=0", "tolerance=0.05") for b in ("plain", "same recipe")}
    assert found["tolerance=0", "plain"].verdict == found["tolerance=0", "same recipe"].verdict == "better"
    assert found["tolerance=0.05", "plain"].verdict == "worse"
    assert len(found["tolerance=0.05", "same recipe"].gains) == 1  # of the seed that both have
    first = found["tolerance=0", "same recipe"].gains[0]
    before, after = (float(Predictions.load(sweep / d / "0" / "model").value("accuracy")) for d in ("dense", "a"))
    assert first == pytest.approx(100 * (after - before))
    pairs = [[Predictions.load(sweep / d / str(s) / "model") for d in ("dense", "a")] for s in range(3)]
    low, high = 100 * np.quantile(gains_resampled(pairs, "accuracy"), (0.025, 0.975))
    same = found["tolerance=0", "same recipe"]
    assert (same.low, same.high) == pytest.approx((low, high))


def test_a_seed_without_its_baseline_is_compared_with_plain_alone(sweep):
    shutil.rmtree(sweep / "dense" / "1")
    rows, _ = compare_cells([*cells(sweep).values()])
    found = {row.baseline: len(row.comparison.gains) for row in rows if row.setting == "tolerance=0"}
    assert found == {"plain": 3, "same recipe": 2}


def test_a_baseline_that_was_trained_otherwise_is_none(sweep):
    for seed in range(3):
        path = sweep / "dense" / str(seed) / ".resume" / "run.json"
        path.write_text(path.read_text().replace('"finetune_epochs": 3', '"finetune_epochs": 9'))
    rows, _ = compare_cells([*cells(sweep).values()])
    assert {row.baseline for row in rows} == {"plain"}


def test_without_predictions_few_seeds_say_nothing_and_the_page_says_why(sweep):
    (sweep / "a" / "2" / "model" / "dev_predictions.npz").unlink()
    rows, _ = compare_cells([*cells(sweep).values()])
    (row,) = [row for row in rows if (row.setting, row.baseline) == ("tolerance=0", "plain")]
    assert (row.comparison.low, row.comparison.p, len(row.comparison.gains)) == (None, None, 3)
    assert row.comparison.limits in overview(rows, read_records(sweep)).words
    assert row.comparison.limits.startswith("3 seeds without predictions: nothing can be tested")


def test_predictions_on_other_samples_are_said_and_not_compared(sweep):
    said = predictions(0.9, 0)
    Predictions({name: array[:-2] for name, array in said.arrays.items()}).save(sweep / "b" / "0" / "model")
    rows, notes = compare_cells([*cells(sweep).values()])
    assert "got 200 and 198 samples" in notes[0]
    assert {row.comparison.p for row in rows if row.setting == "tolerance=0.05"} == {None}


def test_over_all_tasks_stands_the_mean_of_the_tasks(sweep, tmp_path):
    for seed in range(3):
        write_run(tmp_path / "rte" / str(seed), "tolerance=0", seed=seed, task="rte", dense=0.7, cut=0.7)
    rows, _ = compare_cells(cells_of(read_records(tmp_path))[0])
    plain = {row.task: row.comparison for row in rows if (row.setting, row.baseline) == ("tolerance=0", "plain")}
    means = [(a + b) / 2 for a, b in zip(plain["mrpc"].gains, plain["rte"].gains, strict=True)]
    assert list(plain["all tasks"].gains) == pytest.approx(means)
    assert plain["all tasks"].low < plain["all tasks"].over_seeds.mean < plain["all tasks"].high
    assert ("all tasks", "tolerance=0.05") not in {(row.task, row.setting) for row in rows}  # one task lacks it


def test_over_all_tasks_only_the_seeds_are_resampled_that_all_of_them_have(tmp_path):
    write_run(tmp_path / "mrpc" / "0", dense=0.8, cut=0.8)
    write_run(tmp_path / "mrpc" / "1", seed=1, dense=0.7, cut=0.95)
    write_run(tmp_path / "rte" / "0", task="rte", dense=0.8, cut=0.8)
    rows, _ = compare_cells(cells_of(read_records(tmp_path))[0])
    found = {row.task: row.comparison for row in rows}
    assert len(found["all tasks"].gains) == 1
    pairs = [[Predictions.load(tmp_path / task / "0" / d) for d in ("finetuned", "model")] for task in ("mrpc", "rte")]
    drawn = [gains_resampled([pair], "accuracy", seed=number) for number, pair in enumerate(pairs)]
    low, high = 100 * np.quantile(np.mean(drawn, axis=0), (0.025, 0.975))
    assert (found["all tasks"].low, found["all tasks"].high) == pytest.approx((low, high))


def test_over_all_tasks_predictions_on_other_samples_are_not_resampled(sweep, tmp_path):
    write_run(tmp_path / "rte" / "0", "tolerance=0", task="rte")
    said = predictions(0.9, 0)
    Predictions({name: array[:-2] for name, array in said.arrays.items()}).save(sweep / "rte" / "0" / "model")
    rows, notes = compare_cells(cells_of(read_records(tmp_path))[0])
    assert ["got 200 and 198 samples" in note for note in notes] == [True]
    assert [row.comparison.low for row in rows if row.task == "all tasks"] == [None]


def test_over_all_tasks_what_cannot_be_paired_is_said_also_where_no_task_says_it(tmp_path):
    for task in ("mrpc", "rte"):
        write_run(tmp_path / f"{task}0", "tolerance=0", task=task)
    write_run(tmp_path / "mrpc1", "tolerance=0", seed=1)  # without predictions, so MRPC's are not looked at
    (tmp_path / "mrpc1" / "model" / "dev_predictions.npz").unlink()
    Predictions({"labels": np.zeros(3, dtype=int), "logits": np.eye(2)[[0, 1, 0]]}).save(tmp_path / "mrpc0" / "model")
    rows, notes = compare_cells(cells_of(read_records(tmp_path))[0])
    (note,) = notes
    assert note.startswith("all tasks, AxFormer: Expected predictions of two models on the same samples, got 200 and 3")
    (together,) = [row for row in rows if row.task == "all tasks"]
    assert len(together.comparison.gains) == 1
    assert together.comparison.low is None


def test_how_the_models_of_a_task_are_fine_tuned_names_no_setting(tmp_path):
    for task, epochs in (("mrpc", 4), ("rte", 5)):
        for seed in range(2):
            for words in ("tolerance=0", "tolerance=0.1"):
                directory = tmp_path / task / words / str(seed)
                write_run(directory, words, seed=seed, task=task)
                listed = directory / ".hydra" / "overrides.yaml"
                listed.write_text(f"{listed.read_text()}\n- finetune_epochs={epochs}")
    records = read_records(tmp_path)
    assert {cell.setting for cell in cells_of(records)[0]} == {"tolerance=0", "tolerance=0.1"}
    shared = shared_overrides(records)
    assert shared["All runs of rte, some/model share"] == ["finetune_epochs=5"]
    rows, _ = compare_cells(cells_of(records)[0])
    assert ("all tasks", "tolerance=0") in {(row.task, row.setting) for row in rows}


def test_dense_models_alone_are_shown_and_compared_with_nothing(sweep, undrawn):
    write_run(sweep / "plain", seed=0)
    path = sweep / "plain" / ".resume" / "run.json"
    kept = json.loads(path.read_text())
    kept["configuration"] |= {"pruning": None, "hard_attention": None, "int8": None}
    write_json(path, kept)
    found = cells(sweep)
    assert found["dense, plain"].is_plain
    assert "tolerance=0" in found
    rows, _ = compare_cells(list(found.values()))
    assert "dense, plain" not in {row.setting for row in rows}
    write_report(sweep)
    assert "| dense, plain |" in (sweep / "report.md").read_text()


def test_of_many_comparisons_those_get_a_sentence_that_say_something(sweep):
    (better,) = [row for row in compare_cells([*cells(sweep).values()])[0] if row.comparison.verdict == "better"][:1]
    neither = replace(better, comparison=compare([(0.8, 0.8)], "accuracy"))
    over_all = replace(neither, task="all tasks", title="all tasks")
    few, many = (overview([neither, better] * number + [over_all], read_records(sweep)).words for number in (1, 20))
    assert [words.split(":")[1].split(" ")[1] for words in few if words.startswith(("mrpc", "all"))] == [
        "not", "not", "better",
    ]  # fmt: skip
    assert any(words.startswith("20 of 41 comparisons, all on single tasks, are not dist") for words in many)
    assert sum(words.startswith("mrpc") for words in many) == 1


def test_a_seed_that_was_run_twice_counts_once(sweep):
    write_run(sweep / "again", "tolerance=0", seed=1)
    found, notes = cells_of(read_records(sweep))
    assert "again repeats seed 1 of a/1" in " ".join(notes) or "a/1 repeats seed 1 of again" in " ".join(notes)
    assert all(len({o.record.seed for o in cell.outcomes}) == len(cell.outcomes) for cell in found)


def test_baselines_of_several_recipes_keep_apart(sweep):
    write_run(sweep / "other", "budget=1", retrain_dense=True)
    path = sweep / "other" / ".resume" / "run.json"
    path.write_text(path.read_text().replace('"finetune_epochs": 3', '"finetune_epochs": 9'))
    found = cells(sweep)
    assert {name for name in found if name.startswith("dense")} == {
        "dense, same recipe",
        "dense, same recipe (budget=1)",
    }
    dense = [(cell, numbers_of(cell)) for cell in found.values()]
    figure, _ = front(*zip(*dense, strict=True))
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"dense, plain", "dense, same recipe", "dense, same recipe (budget=1)"} < labels


@pytest.mark.slow
def test_long_names_of_many_settings_stay_on_the_pictures_and_no_two_share_a_mark(tmp_path):
    for i in range(9):
        write_run(tmp_path / str(i), f"budget={i}", f"tolerance=0.{'1' * 60}", f"repair={'yes' * 20}{i}")
    found = [*cells(tmp_path).values()]
    pictures = [front(found, [numbers_of(one) for one in found]), intervals(compare_cells(found)[0])]
    for figure, _ in pictures:
        FigureCanvasAgg(figure).draw()
        named = [text for text in figure.findobj(Text) if text.get_visible() and "budget=" in text.get_text()]
        assert len(named) == 9
        for text in named:
            box = text.get_window_extent()
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    marks = pictures[0][0].axes[0].collections
    assert len({(tuple(mark.get_facecolor()[0]), mark.get_paths()[0].vertices.tobytes()) for mark in marks}) == 9


def test_runs_that_kept_no_configuration_are_settings_of_their_own(tmp_path):
    for name in ("first", "second"):
        write_run(tmp_path / name, "tolerance=0")
        shutil.rmtree(tmp_path / name / ".hydra")
        shutil.rmtree(tmp_path / name / ".resume")
    assert {name: len(cell.outcomes) for name, cell in cells(tmp_path).items()} == {"first": 1, "second": 1}


def test_without_overrides_the_values_that_differ_name_a_setting(tmp_path):
    for seed in range(2):
        for value in (0, 1):
            write_run(tmp_path / f"{value}-{seed}", f"tolerance={value}", seed=seed)
            shutil.rmtree(tmp_path / f"{value}-{seed}" / ".hydra")
    found = cells(tmp_path)
    assert {name: len(cell.outcomes) for name, cell in found.items()} == {
        "pruning.tolerance=0": 2, "pruning.tolerance=1": 2,
    }  # fmt: skip


def write_ratios(directory, *ratios):
    """Write a run that was asked for two ratios; returns the points of its pareto.json."""
    write_run(directory, "x=1", cut=0.8)
    config = (directory / ".resume" / "run.json").read_text().replace('{"x": "1"}', f'{{"ratios": {[*ratios]}}}')
    (directory / ".resume" / "run.json").write_text(config)
    made = zip((1.0, *map(float, sorted(ratios))), ("finetuned", "model-2x", "model"), strict=True)
    return [
        {"encoder_size": 1 / x, "file_size": 1 / x, "metrics": {"accuracy": 0.8}, "artifact": name} for x, name in made
    ]


def test_each_ratio_of_a_run_is_a_setting(tmp_path):
    points = write_ratios(tmp_path / "0", 10, 2)
    write_json(tmp_path / "0" / "pareto.json", [*points[:2], {"encoder_size": 0.5, "file_size": 0.5}, points[2]])
    results = json.loads((tmp_path / "0" / "results.json").read_text())
    results["axformer"] |= {"encoder_parameters": 200, "size_bytes": 300, "metrics": {"accuracy": 0.7}}  # then in int8
    write_json(tmp_path / "0" / "results.json", results)
    found = cells(tmp_path)
    assert [*found] == ["AxFormer 2x", "AxFormer 10x"]
    numbers = {name: numbers_of(cell) for name, cell in found.items()}
    assert (numbers["AxFormer 2x"].smaller.mean, numbers["AxFormer 2x"].points.mean) == pytest.approx((2, 80))
    assert (numbers["AxFormer 10x"].smaller.mean, numbers["AxFormer 10x"].points.mean) == pytest.approx((10, 70))
    assert numbers["AxFormer 10x"].file.mean == pytest.approx(40)
    assert numbers["AxFormer 2x"].faster is None
    results["models"] = {"model-2x": {"latency_ms": {"batch32": results["baseline"]["latency_ms"]["batch32"] / 1.25}}}
    write_json(tmp_path / "0" / "results.json", results)
    assert numbers_of(cells(tmp_path)["AxFormer 2x"]).faster.mean == pytest.approx(1.25)


@pytest.fixture
def two_ratios(tmp_path):
    """A finished run that has made models at two ratios, and another one."""
    points = write_ratios(tmp_path / "0", 2, 3)
    write_json(tmp_path / "0" / "pareto.json", points)
    write_run(tmp_path / "other", "tolerance=0")
    return tmp_path


def test_a_finished_run_whose_pareto_json_is_lost_is_done_and_what_is_missing_is_said(two_ratios, undrawn):
    assert [name for name in cells(two_ratios) if name.endswith("x")] == ["x=1 2x", "x=1 3x"]
    (two_ratios / "0" / "pareto.json").unlink()
    found, notes = cells_of(read_records(two_ratios))
    assert [(cell.setting, len(cell.outcomes), cell.unfinished) for cell in found] == [
        ("tolerance=0", 1, ()), ("x=1 3x", 1, ()),
    ]  # fmt: skip
    assert "0 is done, but pareto.json does not tell of its models 2x: they are left out." in notes
    assert "1 done" not in write_report(two_ratios).read_text()


def test_a_finished_run_without_its_configuration_has_a_row_for_each_model_and_no_other(two_ratios):
    shutil.rmtree(two_ratios / "0" / ".hydra")
    shutil.rmtree(two_ratios / "0" / ".resume")
    found, notes = cells_of(read_records(two_ratios))
    assert [(cell.setting, len(cell.outcomes), cell.unfinished) for cell in found if cell.setting[0] == "0"] == [
        ("0 model", 1, ()), ("0 model-2x", 1, ()),
    ]  # fmt: skip
    assert notes == []


@pytest.mark.slow
@drawn_once
def test_the_page_is_one_file_that_asks_for_nothing_outside(reported):
    text = (reported / "report.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= {*page.ids}
    assert len(page.ids) == len({*page.ids})
    assert "url(http" not in text
    assert "@import" not in text
    assert set(re.findall(r"https?://[^\s\"')<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert len(text) < 1_000_000


@pytest.mark.slow
def test_pictures_of_one_title_have_ids_of_their_own(tmp_path):
    for name in ("one", "other"):
        write_run(tmp_path / name, "tolerance=0")
    path = tmp_path / "other" / ".resume" / "run.json"  # of another version of the package, so of another recipe
    path.write_text(path.read_text().replace('"finetune_epochs": 3', '"finetune_epochs": 3, "new": null'))
    page = Page(write_report(tmp_path).read_text())
    assert len(page.ids) == len({*page.ids})


@pytest.mark.slow
@drawn_once
def test_mcnemars_test_stands_beside_what_it_is_of(reported):
    lines = (reported / "report.md").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if "McNemar: won, lost, p" in line)
    at = lines[first].split(" | ").index("McNemar: won, lost, p")
    rows = [line.split(" | ") for line in itertools.takewhile(bool, lines[first + 2 :])]
    told = {row[4]: row[at] for row in rows}  # by the number of seeds
    assert re.fullmatch(r"\d+, \d+, [\d.e-]+", told["1"])
    assert told["3"] == "-"


@drawn_once
def test_the_page_says_what_is_known_and_what_is_not(reported):
    text = (reported / "report.html").read_text()
    assert "9 runs: 7 done, 1 failed, 1 unfinished" in text
    for words in ("▲ better", "▼ worse", "within 1", "a test that does not cannot reach 5 % (its least p is 0.25)",
                  "1 unfinished, 1 failed", "python train.py -m seed=0,1,2", "All runs share"):  # fmt: skip
        assert words in text, words
    assert "ValueError: &lt;no&gt; such | file" in text
    assert r"ValueError: \<no> such \| file" in (reported / "report.md").read_text()
    assert "<title>Layer 1, attention: loss 0.4100, before 0.4200, accepted</title>" in text
    assert "<title>Layer 0, head 2: stopped early, before 0.4100, rejected</title>" in text
    assert "<title>Layer 1, attention: 100 % removed, in 3 of 3 as a whole</title>" in text
    assert "<title>Layer 0, attention, removed: damage +0.5000</title>" in text


@pytest.mark.slow
@drawn_once
def test_pictures_can_be_opened_and_markdown_names_them(reported):
    folder = reported / "report"
    named = re.findall(r"\]\(report/(.+)\)", (reported / "report.md").read_text())
    assert {path.name for path in folder.glob("*.png")} == {*named, "mine.png"}
    assert all(DRAWN.fullmatch(name) for name in named)
    for name in named:
        Image.open(folder / name).verify()
        ElementTree.parse((folder / name).with_suffix(".svg"))


def test_markdown_finds_the_pictures_of_a_model_with_blanks_in_its_name(tmp_path, undrawn):
    write_run(tmp_path / "0", "tolerance=0", model="/my models/a (new) model")
    write_report(tmp_path)
    named = re.findall(r"\]\(report/(\S+)\)$", (tmp_path / "report.md").read_text(), re.MULTILINE)
    assert "front-mrpc-a%20%28new%29%20model.png" in named


@pytest.mark.slow
def test_interpolations_in_a_setting_are_no_formulas(tmp_path):
    for setting in ("retrain_epochs=${finetune_epochs}${x_y_z}", r"tolerance=$\bad$"):
        write_run(tmp_path / str(len(setting)), setting)
        write_run(tmp_path / f"dense{len(setting)}", setting, retrain_dense=True)
    write_report(tmp_path)
    assert all(
        (tmp_path / "report" / f"{name}.svg").read_text().count("$") for name in ("gains", "front-mrpc-some-model")
    )


def test_pictures_of_two_models_keep_apart_whose_names_differ_in_a_slash(tmp_path, undrawn):
    for model in ("some/model", "some-model"):
        write_run(tmp_path / model.replace("/", " "), "tolerance=0", model=model)
    write_report(tmp_path)
    named = re.findall(r"report/(front-.*)\.png", (tmp_path / "report.md").read_text())
    assert len({*named}) == len(named) == 2


def test_pictures_of_models_with_long_names_have_names_that_a_disk_takes(tmp_path):
    for i, model in enumerate(("/models/" + "x" * 250, "../" + "deep/" * 60 + "x", "/models/" + "長" * 80)):
        write_run(tmp_path / f"{i}", "tolerance=0", model=model)
        write_run(tmp_path / f"other{i}", "tolerance=0", model=f"/other{model}")
    found = [*cells_of(read_records(tmp_path))[0]]
    names = [image.name for image in fronts(found, [numbers_of(cell) for cell in found]).images]
    assert len({*names}) == 6
    assert all(len(f"{name}.svg.01234567.tmp".encode()) < 255 for name in names)


def test_a_model_that_says_what_is_no_number_has_no_calibration_and_does_not_stop_the_page(tmp_path, undrawn):
    write_run(tmp_path / "a", "tolerance=0")
    said = Predictions.load(tmp_path / "a" / "model").arrays
    Predictions({**said, "logits": np.full_like(said["logits"], np.nan)}).save(tmp_path / "a" / "model")
    write_report(tmp_path)
    assert "## Calibration" not in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_a_single_run_has_the_same_page_in_detail(tmp_path):
    write_run(tmp_path / "0", "tolerance=0")
    text = write_report(tmp_path / "0").read_text()
    assert "mrpc: seed 0" in text
    assert "heads and neurons that are left" in text
    assert "One seed: said of these two models, not of the method." in text


def test_runs_that_hold_nothing_yet_are_shown_as_such(tmp_path):
    write_unfinished(tmp_path / "0", "tolerance=0")
    text = write_report(tmp_path).read_text()
    assert "1 unfinished" in text
    assert "there is nothing to compare" in text


def test_a_single_run_that_says_no_seed_is_one_run(tmp_path):
    write_json(tmp_path / "state.json", {"state": "failed"})
    text = write_report(tmp_path).read_text()
    assert "<h1>unknown: 1 run</h1>" in text
    assert "1 run: 1 failed." in text


def test_an_empty_directory_is_refused_and_stays_empty(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "found none: no directory in it holds one of results.json" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "found none at" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_where_the_page_is(tmp_path, capsys, undrawn):
    write_run(tmp_path / "0", "tolerance=0")
    assert main([str(tmp_path), "--floor", "1"]) == 0
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    assert main([str(tmp_path), "--floor", "-1"]) == 1
    assert "finite number of at least 0, got -1.0" in capsys.readouterr().err


@pytest.mark.parametrize("floor", ["nan", "inf"])
def test_a_floor_that_is_no_number_of_points_is_refused(tmp_path, capsys, floor):
    write_run(tmp_path / "0", "tolerance=0")
    assert main([str(tmp_path), "--floor", floor]) == 1
    assert f"a finite number of at least 0, got {floor}" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_said_and_raises_nothing(tmp_path, caplog):
    try_report(tmp_path / "nowhere")
    assert "could not be written: FileNotFoundError" in caplog.text
