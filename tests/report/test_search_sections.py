import json

import pytest

from axformer_lightning.report.cells import cells_of
from axformer_lightning.report.records import read_records
from axformer_lightning.report.search_sections import calibration, costs
from tests.report.runs import write_json, write_run


def write_ratios(directory):
    """Write a run of the ratios 2, 3.2 and 10, whose last model is in int8."""
    write_run(directory, "ratios=2")
    kept = json.loads((directory / ".resume" / "run.json").read_text())
    kept["configuration"]["pruning"]["ratios"] = [10, 2, 3.2]
    write_json(directory / ".resume" / "run.json", kept)
    point = {"encoder_size": 0.5, "file_size": 0.5, "metrics": {"accuracy": 0.8}}
    made = ("finetuned", "model-2x", "model-3.2x", "model")
    write_json(directory / "pareto.json", [{**point, "artifact": name} for name in made])
    seconds = {
        "finetune": 9.0, "budget": 0.5, "shrink2x": 1.0, "retrain2x": 10.0, "shrink3.2x": 2.0, "retrain3.2x": 20.0,
        "shrink10x": 4.0, "retrain10x": 40.0, "int8_search1": 8.0, "int8_retrain1": 80.0, "evaluate": 1.0,
    }  # fmt: skip
    write_json(directory / "environment.json", {"seconds": seconds})


@pytest.mark.parametrize("with_configuration", [True, False])
def test_of_several_ratios_each_took_the_cuts_down_to_it_and_its_own_retraining(tmp_path, with_configuration):
    write_ratios(tmp_path / "0")
    if not with_configuration:
        for path in (".resume/run.json", ".hydra/overrides.yaml"):
            (tmp_path / "0" / path).unlink()
    (table,) = costs(cells_of(read_records(tmp_path))[0]).tables
    took = sorted(row[3:6] for row in table.rows)
    assert took == [("9.0", "1.0", "10.0"), ("9.0", "15.0", "120.0"), ("9.0", "3.0", "20.0")]


def test_of_a_single_model_all_rounds_count(tmp_path):
    write_run(tmp_path / "0", "tolerance=0")
    seconds = {"finetune": 9.0, "search1": 4.0, "retrain1": 3.0, "search2": 2.0, "retrain2": 1.0, "int8_search1": 5.0}
    write_json(tmp_path / "0" / "environment.json", {"seconds": seconds})
    (table,) = costs(cells_of(read_records(tmp_path))[0]).tables
    assert [row[3:6] for row in table.rows] == [("9.0", "11.0", "4.0")]


def test_calibration_is_drawn_of_models_that_were_cut_and_names_the_seed_that_is_drawn(tmp_path):
    write_run(tmp_path / "plain")
    path = tmp_path / "plain" / ".resume" / "run.json"
    kept = json.loads(path.read_text())
    kept["configuration"] |= {"pruning": None, "hard_attention": None, "int8": None}
    write_json(path, kept)
    for seed in range(3):
        write_run(tmp_path / f"{seed}", "tolerance=0", seed=seed)
    (tmp_path / "0" / "model" / "dev_predictions.npz").unlink()
    section = calibration(cells_of(read_records(tmp_path))[0])
    assert [row[1:3] for row in section.tables[0].rows] == [("dense, plain", "1"), ("AxFormer", "2")]
    assert [image.title for image in section.images] == ["mrpc, AxFormer, seed 1: how often right, how sure"]
