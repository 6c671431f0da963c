import json

import pytest

from axformer_lightning.report.cells import cells_of
from axformer_lightning.report.charts import front
from axformer_lightning.report.numbers import numbers_of
from axformer_lightning.report.records import read_records
from tests.report.runs import write_json, write_run


def front_of(directory):
    found, _ = cells_of(read_records(directory))
    return front(found, [numbers_of(cell) for cell in found])


def dense_of(run, value):
    results = json.loads((run / "results.json").read_text())
    results["baseline"]["metrics"]["accuracy"] = value
    write_json(run / "results.json", results)


def test_the_line_of_the_dense_models_is_over_all_seeds_and_not_those_of_the_first_setting(tmp_path):
    write_run(tmp_path / "few", "tolerance=0")
    for seed in range(3):
        write_run(tmp_path / f"many{seed}", "tolerance=1", seed=seed)
    write_run(tmp_path / "lost", "tolerance=1", seed=3)
    for name, value in (("few", 0.7), ("many0", 0.7), ("many1", 0.8), ("many2", 0.9), ("lost", None)):
        dense_of(tmp_path / name, value)
    figure, said = front_of(tmp_path)
    (star,) = [line for line in figure.axes[0].lines if line.get_label() == "dense, plain"]
    assert star.get_ydata() == pytest.approx([80])
    assert "dense of these seeds 70.00" in said["front-0-0"][0]
