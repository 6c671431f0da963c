"""The experiments of published tables, and what `--help` says."""

import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

import train
from axformer_lightning.callbacks import ShrinkCallback
from axformer_lightning.runs.checking import check_configuration
from axformer_lightning.runs.groups import callbacks_of
from axformer_lightning.runs.retraining import Recipe
from axformer_lightning.tasks import TASKS

ROOT = Path(train.__file__).parent
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
CHOSEN = {  # experiment -> what it chooses whatever the task does, and settings that it has to bring through
    "budget": ({"pruning": "budget", "distillation": "self", "hard_attention": "none"}, {"retrain_epochs": 3}),
    "budget_reworded": (
        {"pruning": "budget", "distillation": "self", "hard_attention": "none"},
        {"retrain_epochs": 1, "retrain_dropout": 0, "retrain_learning_rate": 2e-4},
    ),
    "dense": ({"pruning": "none", "hard_attention": "none"}, {}),
    "dense_bf16": ({"pruning": "none", "hard_attention": "none"}, {}),
    "full": ({"pruning": "budget", "hard_attention": "default", "int8": "default"}, {"report_stages": True}),
    "mrpc_minilm": ({"pruning": "default", "model": "minilm", "task": "mrpc"}, {}),
    "mrpc_minilm_loss_only": ({"pruning": "default", "model": "minilm", "task": "mrpc"}, {}),
    "paper": (
        {"pruning": "published", "hard_attention": "default", "model": "bert-base-cased"},
        {"retrain_on_all": True, "retrain_keep": "last"},
    ),
    "published": ({"pruning": "published", "hard_attention": "default"}, {"retrain_on_all": False}),
}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_fits_every_task_and_no_task_overrules_it(experiment):
    choices, settings = CHOSEN[experiment]
    tasks = ["mrpc"] if "task" in choices else list(TASKS)
    if experiment == "budget_reworded":
        tasks = [name for name, task in TASKS.items() if task.kind != "question_answering"]  # has no copies
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for task in tasks:
            words = [f"experiment={experiment}", *([] if "task" in choices else [f"task={task}"])]
            cfg = compose("config", overrides=words, return_hydra_config=True)
            assert choices.items() <= dict(cfg.hydra.runtime.choices).items(), task
            assert settings == {name: cfg[name] for name in settings}, task
            assert cfg.task.name == task
            check_configuration(cfg)
            callbacks = callbacks_of(cfg)
            assert any(isinstance(one, ShrinkCallback) for one in callbacks) == (choices["pruning"] == "budget")
            Recipe(cfg.retrain_epochs, on_all=cfg.retrain_on_all, keep=cfg.retrain_keep, headline=cfg.task.headline)


@pytest.mark.slow
def test_what_the_experiments_are_about_comes_through():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        of = {name: compose("config", overrides=[f"experiment={name}", "task=mrpc"]) for name in EXPERIMENTS}
    assert of["budget"].pruning.ratios == of["budget_reworded"].pruning.ratios == [2, 3.2, 10]
    assert (of["budget"].distillation.copies, of["budget_reworded"].distillation.copies) == (0, 2)
    assert (of["dense_bf16"].trainer.precision, of["dense_bf16"].data.max_train_samples) == ("bf16-mixed", 10000)
    assert of["mrpc_minilm_loss_only"].pruning.criterion == "loss"
    assert (of["paper"].pruning.retrain, of["paper"].retrain_epochs) == ("rewind", of["paper"].finetune_epochs)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("task", ["demo", "mrpc", "squad"])
def test_a_way_to_prune_brings_its_hard_attention_whatever_the_task(task):
    def choices(*words):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose("config", overrides=[f"task={task}", *words], return_hydra_config=True)
        return [cfg.hydra.runtime.choices[name] for name in ("pruning", "hard_attention", "distillation")]

    assert choices("pruning=budget") == ["budget", "none", "self"]
    assert choices("pruning=tolerant") == ["tolerant", "strict", "none"]
    assert choices("pruning=budget", "hard_attention=default", "distillation=none") == ["budget", "default", "none"]


@pytest.mark.slow
def test_help_names_tasks_models_groups_and_settings(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config-path", str(ROOT / "conf"), "--help"])
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # what Hydra sets there goes with this test
    with pytest.raises(SystemExit, match="0"):
        train.main()
    said = capsys.readouterr().out
    choices = dict(line.split(": ", 1) for line in said.splitlines() if line.startswith(("task: ", "model: ", "exper")))
    assert set(choices["task"].split(", ")) == {*TASKS}
    assert {"minilm", "bert-base-cased"} <= set(choices["model"].split(", "))
    assert choices["experiment"].split(", ") == EXPERIMENTS
    for words in ('eval "$(python train.py -sc install=bash)"', "--cfg job", "retrain_keep: last", "docs/settings.md"):
        assert words in said
