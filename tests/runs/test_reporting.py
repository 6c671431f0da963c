"""The end of a run."""

from axformer_lightning.artifacts.files import PLAN_FILE
from axformer_lightning.runs import reporting


def test_models_of_ratios_that_were_not_made_go_and_those_of_the_user_stay(tmp_path):
    names = ("model", "model-2x", "model-1.5x", "model-1e+06x", "model-of mine", "model-2x-kept")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / PLAN_FILE).touch()
    reporting._remove_former(tmp_path, ["finetuned", "model-2x", "model"])
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model-2x", "model-of mine", "model-2x-kept"}
