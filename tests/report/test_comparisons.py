"""Which runs are paired with which baselines, and what stands over all tasks."""

import pytest

from axformer_lightning.report.cells import cells_of
from axformer_lightning.report.comparisons import compare_cells
from axformer_lightning.report.records import read_records
from tests.report.runs import write_run


def rows_of(directory):
    rows, notes = compare_cells(cells_of(read_records(directory))[0])
    assert notes == []
    return rows


def change_configuration(run):
    """As another version of the package that knows an option more would have run the same command."""
    path = run / ".resume" / "run.json"
    path.write_text(path.read_text().replace('"finetune_epochs": 3', '"finetune_epochs": 3, "new": null'))


def test_baselines_of_a_recipe_are_those_of_all_seeds_whatever_cuts_were_told_with_them(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"cut{seed}", "budget=2", seed=seed)
        write_run(tmp_path / f"dense{seed}", f"tolerance={seed}", seed=seed, retrain_dense=True)
    assert {row.baseline: len(row.comparison.gains) for row in rows_of(tmp_path)} == {"plain": 2, "same recipe": 2}


def test_of_two_baselines_of_a_seed_the_first_counts(tmp_path):
    write_run(tmp_path / "cut", "budget=2", cut=0.9)
    for value, right in ((0, 0.7), (1, 0.5)):
        write_run(tmp_path / f"dense{value}", f"tolerance={value}", retrain_dense=True, cut=right)
    (row,) = [row for row in rows_of(tmp_path) if row.baseline == "same recipe"]
    (cut, dense) = (read_records(tmp_path / name)[0].results["axformer"]["metrics"] for name in ("cut", "dense0"))
    assert row.comparison.gains == pytest.approx([100 * (cut["accuracy"] - dense["accuracy"])])


def test_a_task_that_has_a_setting_in_two_recipes_does_not_stand_for_another_task(tmp_path):
    write_run(tmp_path / "mrpc", "tolerance=0")
    write_run(tmp_path / "again", "tolerance=0")
    change_configuration(tmp_path / "again")
    write_run(tmp_path / "rte", "tolerance=1", task="rte")
    assert {row.task for row in rows_of(tmp_path)} == {"mrpc", "rte"}
