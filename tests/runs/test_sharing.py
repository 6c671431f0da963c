"""Runs that train alike share their dense model."""

import json
import shutil

import pytest
from omegaconf import OmegaConf

from axformer_lightning.runs import stages
from axformer_lightning.runs.configured import run_name
from axformer_lightning.runs.sharing import fine_tuning_of
from axformer_lightning.runs.state import read_state
from tests.runs.runs import QUIET, outcome, run

pytestmark = QUIET


@pytest.fixture
def options(write_glue, tmp_path):
    return ["task=mrpc", f"data_dir={write_glue('mrpc')}", f"sweep.dense_dir={tmp_path / 'dense'}", "finetune_epochs=2"]


@pytest.fixture
def trained(monkeypatch):
    """The stages that were trained, in order."""
    fitted, fit = [], stages._fit

    def telling_fit(run, stage, epochs, *args):
        fitted.append(stage)
        return fit(run, stage, epochs, *args)

    monkeypatch.setattr(stages, "_fit", telling_fit)
    return fitted


@pytest.mark.slow
def test_it_is_made_once_and_what_follows_is_the_same(options, trained, tmp_path):
    run(tmp_path / "a", *options, "retrain_epochs=1")
    assert trained == ["finetune", "retrain1"]
    run(tmp_path / "b", *options, "retrain_epochs=1")
    run(tmp_path / "c", *options, "pruning.tolerance=0", "retrain_learning_rate=1e-5")
    assert trained == ["finetune", "retrain1", "retrain1"]
    run(tmp_path / "alone", *options, "retrain_epochs=1", "sweep.dense_dir=null")
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b") == outcome(tmp_path / "alone")


@pytest.mark.slow
def test_other_training_gets_a_model_of_its_own(options, trained, tmp_path):
    run(tmp_path / "a", *options)
    run(tmp_path / "b", *options, "seed=1")
    assert trained == ["finetune", "finetune"]
    assert len(list((tmp_path / "dense").iterdir())) == 2


def test_what_follows_fine_tuning_is_the_only_thing_left_out():
    train_alike = {"seed": 0, "finetune_epochs": 3, "model": {"pretrained": None}}
    after = {"pruning": {}, "hard_attention": None, "retrain_epochs": 1, "distillation": None, "int8": None}
    assert fine_tuning_of(train_alike | after) == train_alike


@pytest.mark.slow
def test_a_maker_that_dies_leaves_its_epochs_to_the_next(options, tmp_path, monkeypatch):
    def die(*args, **options):
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(stages, "save_pretrained", die)  # after the last epoch
        with pytest.raises(InterruptedError):
            run(tmp_path / "a", *options)
    (shared,) = (tmp_path / "dense").iterdir()
    assert (shared / "finetune.ckpt").exists()
    assert read_state(tmp_path / "a").state == "failed"
    (shared / "half.json.abcd_123.tmp").touch()
    run(tmp_path / "b", *options)
    assert not (shared / "half.json.abcd_123.tmp").exists()
    run(tmp_path / "alone", *options, "sweep.dense_dir=null")
    assert outcome(tmp_path / "b") == outcome(tmp_path / "alone")


@pytest.mark.slow
def test_a_run_keeps_its_dense_model_when_the_shared_one_goes(options, tmp_path):
    run(tmp_path / "a", *options)
    before = outcome(tmp_path / "a")
    shutil.rmtree(tmp_path / "dense")
    assert outcome(tmp_path / "a") == before


@pytest.mark.slow
def test_where_to_share_says_nothing_of_the_results(options, tmp_path):
    run(tmp_path / "a", *options)
    assert "sweep" not in json.loads((tmp_path / "a" / ".resume" / "run.json").read_text())["configuration"]
    cfg = OmegaConf.create({"seed": 0, "sweep": {"jobs": 3}, "trainer": {}, "hydra": {"run": {"dir": "x"}}})
    other = OmegaConf.create({"seed": 0, "sweep": {"jobs": 1}, "trainer": {}, "hydra": {"run": {"dir": "y"}}})
    assert run_name(_root_=cfg) == run_name(_root_=other)
    other.seed = 1
    assert run_name(_root_=cfg) != run_name(_root_=other)
