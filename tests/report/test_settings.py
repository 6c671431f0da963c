import json
import shutil

import pytest

from axformer_lightning.report.cells import cells_of, shared_overrides
from axformer_lightning.report.comparisons import compare_cells
from axformer_lightning.report.page import write_report
from axformer_lightning.report.records import read_records
from tests.report.runs import write_json, write_run


def settings(directory):
    return {cell.setting: cell for cell in cells_of(read_records(directory))[0]}


@pytest.mark.parametrize("option", ["model.learning_rate", "trainer.precision", "task.n_best"])
def test_what_is_changed_in_a_group_tells_settings_and_recipes_apart(tmp_path, option):
    for seed in range(2):
        for value in (1, 2):
            write_run(tmp_path / f"{value}-{seed}", "tolerance=0", f"{option}={value}", seed=seed)
        write_run(tmp_path / f"dense-{seed}", f"{option}=1", seed=seed, retrain_dense=True)
    found, notes = cells_of(read_records(tmp_path))
    assert notes == []
    assert {cell.setting: len(cell.outcomes) for cell in found} == {
        "dense, same recipe": 2, f"{option}=1": 2, f"{option}=2": 2,
    }  # fmt: skip
    assert {row.setting for row in compare_cells(found)[0] if row.baseline == "same recipe"} == {f"{option}=1"}
    for directory in tmp_path.iterdir():
        shutil.rmtree(directory / ".hydra")
    assert {f"{option}=1", f"{option}=2"} <= {*" ".join(settings(tmp_path)).split()}


def test_which_group_is_chosen_and_where_runs_ran_tells_no_settings_apart(tmp_path):
    for seed in range(2):
        beside = "trainer.devices=2", "trainer.enable_progress_bar=False", "model.pretrained=some/model"
        write_run(tmp_path / f"{seed}", "tolerance=0", *beside[: 3 * seed], seed=seed)
        write_run(tmp_path / f"dense-{seed}", seed=seed, retrain_dense=True)
    listed = tmp_path / "0" / ".hydra" / "overrides.yaml"
    listed.write_text(f"{listed.read_text()}\n- model=some")
    assert {name: len(cell.outcomes) for name, cell in settings(tmp_path).items()} == {
        "dense, same recipe": 2, "AxFormer": 2,
    }  # fmt: skip
    rows, _ = compare_cells([*settings(tmp_path).values()])
    assert {row.baseline: len(row.comparison.gains) for row in rows} == {"plain": 2, "same recipe": 2}


def test_what_all_runs_of_a_model_change_in_it_names_no_setting(tmp_path):
    for model, rate in (("some/model", 1), ("other/model", 2)):
        for value in (0, 1):
            write_run(tmp_path / f"{rate}{value}", f"tolerance={value}", f"model.learning_rate={rate}", model=model)
    records = read_records(tmp_path)
    assert {cell.setting for cell in cells_of(records)[0]} == {"tolerance=0", "tolerance=1"}
    assert shared_overrides(records)["All runs of mrpc, other/model share"] == ["model.learning_rate=2"]


def test_dense_models_of_several_rates_keep_apart(tmp_path):
    for rate in (1, 2):
        write_run(tmp_path / f"{rate}", f"model.learning_rate={rate}")
        path = tmp_path / f"{rate}" / ".resume" / "run.json"
        kept = json.loads(path.read_text())
        kept["configuration"] |= {"pruning": None, "hard_attention": None, "int8": None}
        write_json(path, kept)
    assert {*settings(tmp_path)} == {f"dense, plain (model.learning_rate={rate})" for rate in (1, 2)}


@pytest.mark.slow
def test_of_several_models_each_is_named(tmp_path, undrawn):
    for model in ("some/model", "other/model"):
        for task in ("mrpc", "rte"):
            write_run(tmp_path / model / task, "tolerance=0", task=task, model=model, dense=0.7, cut=0.95)
    write_run(tmp_path / "sst2", "tolerance=0", task="sst2", model="some/model")
    found, _ = cells_of(read_records(tmp_path))
    assert {cell.title for cell in found} == {
        "mrpc, some/model", "mrpc, other/model", "rte, some/model", "rte, other/model", "sst2",
    }  # fmt: skip
    rows, _ = compare_cells(found)
    assert len({(row.title, row.setting, row.baseline) for row in rows}) == len(rows)
    assert {row.title for row in rows if row.task == "all tasks"} == {"all tasks, some/model", "all tasks, other/model"}
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    for words in ("mrpc, other/model: better than", "| rte, some/model | AxFormer | plain |",
                  "![mrpc, some/model, AxFormer, seed 0: 2 of 3 candidates accepted]"):  # fmt: skip
        assert words in text
    shutil.rmtree(tmp_path / "other/model" / "rte")
    rows, _ = compare_cells(cells_of(read_records(tmp_path))[0])
    assert {row.title for row in rows if row.task == "all tasks"} == {"all tasks, some/model"}  # one is not several


def test_one_task_twice_is_not_all_tasks(tmp_path):
    for model in ("some/model", "other/model"):
        write_run(tmp_path / model, "tolerance=0", model=model)
    write_run(tmp_path / "rte", "tolerance=1", task="rte")
    rows, _ = compare_cells(cells_of(read_records(tmp_path))[0])
    assert {row.task for row in rows} == {"mrpc", "rte"}


def test_models_of_one_name_in_several_directories_are_told_apart(tmp_path, undrawn):
    one, other, deep = "/a/one/minilm", "/a/other/minilm", "/b/other/minilm/"
    for i, model in enumerate((one, other, deep, "/c/alone", "bert-base")):
        for seed in range(2):
            write_run(tmp_path / f"{i}-{seed}", "tolerance=0", model=model, seed=seed)
    found, notes = cells_of(read_records(tmp_path))
    assert notes == []
    names = "one/minilm", "a/other/minilm", "b/other/minilm", "alone", "bert-base"
    assert {cell.title: len(cell.outcomes) for cell in found} == {f"mrpc, {name}": 2 for name in names}


def test_a_directory_is_not_taken_for_a_model_of_the_hub(tmp_path):
    for i, model in enumerate(("minilm", "/a/minilm", "some/model", "/b/some/model")):
        write_run(tmp_path / f"{i}", "tolerance=0", model=model)
    assert {record.model for record in read_records(tmp_path)} == {
        "minilm", "a/minilm", "some/model", "model",
    }  # fmt: skip


def test_an_option_that_came_later_and_is_null_tells_no_settings_apart(tmp_path):
    for seed in range(2):
        write_run(tmp_path / str(seed), "tolerance=0", seed=seed)
    kept = tmp_path / "1" / ".resume" / "run.json"
    record = json.loads(kept.read_text())
    record["configuration"]["task"]["texts"] = None
    write_json(kept, record)
    assert [len(cell.outcomes) for cell in settings(tmp_path).values()] == [2]
    for directory in tmp_path.iterdir():
        shutil.rmtree(directory / ".hydra")
    assert [len(cell.outcomes) for cell in settings(tmp_path).values()] == [2]
