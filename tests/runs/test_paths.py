"""Paths of a configuration, where Hydra changes the directory."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import train
from axformer_lightning.runs import paths
from axformer_lightning.runs.configured import configuration_of, shared_directory
from tests.runs.runs import QUIET, SMALL, configuration, no_latencies

RUN = ["task=mrpc", "model=tiny"]


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """Hydra was started in `home/`, and has gone to `run/`."""
    home, run = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    run.mkdir()
    monkeypatch.chdir(run)
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    hydra = SimpleNamespace(runtime=SimpleNamespace(cwd=str(home)), overrides=SimpleNamespace(task=[]))
    monkeypatch.setattr(HydraConfig, "get", lambda: hydra)
    return home


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("", "data_dir"),
        ("trim_vocabulary=true", "corpus"),
        ("distillation=directory", "distillation.teacher"),
        ("pruning=budget", "pruning.latency_table"),
        ("", "sweep.dense_dir"),
    ],
)
def test_a_relative_path_is_from_where_the_command_was_given(changed, choice, name):
    cfg = configuration(*RUN, *choice.split(), f"{name}=some/place")
    before = configuration_of(cfg)
    found = paths.from_where_it_was_given(cfg)
    for part in name.split("."):
        found = found[part]
    assert found == str(changed / "some" / "place")
    assert configuration_of(cfg) == before  # by which runs are told apart


@pytest.mark.slow
def test_a_model_is_a_directory_there_or_an_id_of_the_hub(changed):
    (changed / "mine").mkdir()
    for given, expected in (("mine", str(changed / "mine")), ("bert-base-cased", "bert-base-cased"), (None, None)):
        cfg = configuration(*RUN, f"model.pretrained={'null' if given is None else given}")
        assert paths.from_where_it_was_given(cfg).model.pretrained == expected
    cfg = configuration(*RUN, "distillation=self", "data_dir=/a/b")
    found = paths.from_where_it_was_given(cfg)
    assert (found.distillation.teacher, found.data_dir) == ("self", "/a/b")


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("", "data_dir"),
        ("", "model.pretrained"),
        ("distillation=directory", "distillation.teacher"),
        ("distillation=self", "distillation.texts"),
        ("pruning=budget", "pruning.latency_table"),
        ("", "sweep.dense_dir"),
    ],
)
@pytest.mark.slow_but_first
@pytest.mark.parametrize("is_there", [True, False])
def test_a_name_that_looks_like_a_number_is_a_path(changed, monkeypatch, choice, name, is_there):
    monkeypatch.chdir(changed if is_there else changed.parent)
    (changed / "20240601").mkdir()
    cfg = configuration(*RUN, *choice.split(), f"{name}=20240601")
    found = OmegaConf.select(paths.from_where_it_was_given(cfg), name)
    assert found == ("20240601" if is_there else str(changed / "20240601"))


def test_nothing_changes_where_the_directory_is_the_same(changed, monkeypatch):
    monkeypatch.chdir(changed)
    cfg = configuration(*RUN, "data_dir=some/place")
    assert paths.from_where_it_was_given(cfg) == cfg


def test_runs_share_their_dense_model_there(changed):
    cfg = configuration(*RUN, "sweep.dense_dir=dense")
    assert shared_directory(cfg).parent == changed / "dense"


@pytest.mark.slow
@QUIET
def test_a_run_reads_its_files_from_there_and_is_called_as_before(changed, write_glue, monkeypatch):
    monkeypatch.setattr(train.reporting, "latencies_ms", no_latencies)
    write_glue("mrpc").rename(changed / "glue")
    (changed / "corpus").write_text("a zyzzyva\n")
    directory = Path("here")
    directory.mkdir()
    monkeypatch.setattr(HydraConfig, "initialized", lambda: False)  # of what Hydra keeps there is nothing to write
    monkeypatch.setattr(paths, "to_absolute_path", lambda path: str((changed / path).resolve()))
    given = "data_dir=glue", "trim_vocabulary=true", "corpus=corpus", "hard_attention=none", "pruning=none"
    small = [word for word in SMALL if not word.startswith("pruning.")]
    results = train.train(configuration("task=mrpc", *small, *given), directory.absolute())
    assert results["model"] == "tiny"
