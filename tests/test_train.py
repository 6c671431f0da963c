"""The app: every choice composes, and a short run leaves what design.md promises."""

import inspect
import json
import shlex
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import MissingConfigException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import OmegaConf
from PIL import Image
from transformers import AutoTokenizer

import train
from axformer_lightning import AccuracyDrivenPruningCallback, HardAttentionCallback, Plan, load_pretrained
from axformer_lightning.callbacks import settings_of
from axformer_lightning.costs import latencies_ms
from axformer_lightning.criteria import Rule
from axformer_lightning.runs import reporting
from axformer_lightning.runs.configured import loggers_of
from axformer_lightning.runs.groups import callbacks_of
from axformer_lightning.runs.locks import locked
from axformer_lightning.runs.retraining import GRADIENT_CLIP
from axformer_lightning.tasks import TASKS, load_rows, texts_of
from axformer_lightning.tasks.demo import demo_pairs
from axformer_lightning.vocabulary import trim_vocabulary_

pytestmark = pytest.mark.usefixtures("undrawn")  # pages are drawn in tests/report
ROOT = Path(train.__file__).parent
CHOICES = sorted(f"{path.parent.name}={path.stem}" for path in (ROOT / "conf").glob("*/*.yaml"))
CHOICES_BUT_TASKS = [  # tasks are composed below, experiments in test_experiments.py
    choice for choice in CHOICES if not choice.startswith(("task=", "experiment="))
]
SHORT = ["finetune_epochs=1", "retrain_epochs=1", "data.batch_size=8", "logger=none"]
SHORT += ["++trainer.enable_progress_bar=false", "++trainer.accelerator=cpu", "model.config.num_hidden_layers=2"]
QUIET = pytest.mark.filterwarnings("ignore:The dataloader", "ignore:.*no `LightningLoggerBase`")


def configuration(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.fixture
def glue(tmp_path):
    """Forty rows of MRPC's official layout, invented."""
    folder = tmp_path / "glue" / "MRPC"
    folder.mkdir(parents=True)
    for seed, part in enumerate(("train", "dev")):
        lines = [f"{pair.label}\t1\t2\t{pair.sentence1}\t{pair.sentence2}" for pair in demo_pairs(40, seed)]
        text = "\n".join(["\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", *lines]) + "\n"
        (folder / f"{part}.tsv").write_text(text, encoding="utf-8")
    return folder.parent


@pytest.fixture
def run(glue, tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "latencies_ms", partial(latencies_ms, min_seconds=1e-6))

    def go(*overrides, name="run"):
        directory = tmp_path / name
        directory.mkdir()
        cfg = configuration("task=mrpc", "model=tiny", f"data_dir={glue}", *SHORT, *overrides)
        return train.train(cfg, directory), directory

    return go


@pytest.mark.slow_but_first
@pytest.mark.parametrize("choice", ["task=mrpc", *CHOICES_BUT_TASKS])
def test_every_choice_composes_and_builds(choice):
    cfg = configuration(choice)
    assert cfg.task.name in TASKS
    callbacks = callbacks_of(cfg)
    one_less = choice in ("pruning=none", "hard_attention=none", "pruning=budget")
    assert len(callbacks) == 2 - one_less + (choice == "int8=default")
    assert isinstance(instantiate(cfg.trainer, logger=False, default_root_dir="."), L.Trainer)


def test_the_choices_were_found():
    assert {"model=minilm", "pruning=none", "hard_attention=none"} <= set(CHOICES)
    assert {choice.removeprefix("task=") for choice in CHOICES if choice.startswith("task=")} == set(TASKS)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "tiny"),
        (["task=mrpc"], "bert-base-cased"),
        (["task=squad_v2"], "bert-base-cased"),
        (["task=mrpc", "model=minilm"], "all-MiniLM-L6-v2"),
        (["task=rte", "model=mpnet-base"], "all-mpnet-base-v2"),
        (["model=roberta-base", "task=mrpc"], "roberta-base"),
        (["task=mrpc", "model=minilm", "model.pretrained=somewhere"], "somewhere"),
    ],
)
def test_a_task_brings_its_model_and_a_choice_overrides_it(overrides, name):
    assert (configuration(*overrides).model.pretrained or "tiny").endswith(name)


@pytest.mark.parametrize(
    ("group", "callback"), [("pruning", AccuracyDrivenPruningCallback), ("hard_attention", HardAttentionCallback)]
)
def test_defaults_are_those_of_the_signature(group, callback):
    parameters = inspect.signature(callback.__init__).parameters
    options = dict(configuration("task=mrpc")[group])
    assert options.pop("_target_").endswith(callback.__name__)
    assert options == {name: parameters[name].default for name in options}


def test_every_name_that_people_override_exists():
    cfg = configuration(
        "task=mrpc", "task.headline=accuracy", "data_dir=x", "predict_test=true", "seed=1",
        "finetune_epochs=1", "retrain_epochs=1", "data.batch_size=1",
        "data.max_length=1", "data.search_fraction=0.1", "data.max_search_samples=1", "data.max_train_samples=1",
        "pruning.tolerance=0.1", "pruning.criterion=metric", "pruning.majority=0",
        "pruning.rounds=2", "pruning.retrain=rewind",
        "pruning.inspection_factor=1.2", "pruning.neuron_groups=6", "hard_attention.k=4",
        "hard_attention.renormalize=true", "distillation=self", "distillation.alpha=0.5", "distillation.temperature=3",
        "distillation.hidden=1", "retrain_learning_rate=1e-5", "retrain_ema=0.9", "retrain_keep=last",
        "retrain_dense=true", "++trainer.max_time=00:00:01:00", "++trainer.accelerator=cpu",
    )  # fmt: skip
    hard, pruning = callbacks_of(cfg)
    assert (hard.settings.k, hard.settings.renormalize) == (4, True)
    assert (pruning.settings.neuron_groups, pruning.settings.inspection_factor, pruning.rounds) == (6, 1.2, 2)
    assert pruning.options["metric"] is not None
    assert cfg.trainer.max_time == "00:00:01:00"


@pytest.mark.parametrize("overrides", [(), ("pruning=none",), ("hard_attention=none",)])
@pytest.mark.parametrize("criterion", [None, "loss_and_metric", "metric"])
def test_the_metric_that_decides_is_the_one_that_is_reported(overrides, criterion):
    group = "hard_attention" if "pruning=none" in overrides else "pruning"
    choice = [f"{group}.criterion={criterion}"] if criterion else []
    callbacks = callbacks_of(configuration("task=stsb", "task.headline=spearman", *overrides, *choice))
    settings = settings_of(callbacks, callbacks)
    rules = [settings.rule, *([settings.hard_rule] if settings.hard_rule else [])]
    assert {type(rule.metric).__name__ for rule in rules} == {"SpearmanCorrCoef"}
    assert {(rule.criterion, rule.majority) for rule in rules} == {(criterion or "loss_and_metric", 0.0)}


def test_gradients_are_clipped_alike_in_a_run_and_when_rules_are_compared():
    assert configuration("task=mrpc").trainer.gradient_clip_val == GRADIENT_CLIP


def test_the_published_rule_is_a_choice():
    callbacks = callbacks_of(configuration("task=mrpc", "pruning=published"))
    settings = settings_of(callbacks, callbacks)
    assert settings.rule == settings.hard_rule == Rule()


@pytest.mark.slow
@QUIET
def test_a_run_leaves_what_was_promised(run):
    results, directory = run("pruning.majority=0", "pruning.tolerance=0.5", "data.max_search_samples=4")
    assert json.loads((directory / "results.json").read_text()) == results
    assert list(results) == [
        "task", "model", "seed", "device", "accepted", "baseline", "axformer", "search", "retraining", "plan",
        "artifact",
    ]  # fmt: skip
    assert list(results["search"]) == [
        "candidates", "accepted", "evaluations", "layer_tokens", "exhaustive_layer_tokens", "seconds",
    ]  # fmt: skip
    for side in ("baseline", "axformer"):
        assert list(results[side]) == [
            "metrics", *(["search_metrics"] if side == "axformer" else []), "parameters", "encoder_parameters",
            "size_bytes", "macs_per_sample", "latency_ms",
        ]  # fmt: skip
        assert list(results[side]["metrics"]) == ["accuracy", "f1"]
        assert list(results[side]["latency_ms"]) == ["batch1", "batch32"]
    plan = Plan.load(directory / "plan.json")
    assert results["search"]["candidates"] == len(plan.decisions)
    assert results["accepted"] == sum(decision.accepted for decision in plan.decisions) > 0
    assert plan.decisions[0].samples_seen <= 4
    assert results["axformer"]["parameters"] < results["baseline"]["parameters"]
    assert results["axformer"]["size_bytes"] == (directory / "model" / "model.safetensors").stat().st_size
    assert load_pretrained(directory / "model").axformer_plan == plan
    with Image.open(directory / "plan.png") as picture:
        assert min(picture.size) > 100
    assert not (directory / "start.safetensors").exists()


@pytest.mark.slow
@QUIET
def test_what_came_of_a_run_is_shown(run, tmp_path, monkeypatch, capsys):
    _, directory = run("retrain_epochs=0", "pruning=none", "hard_attention.k=4", name="run [x] :fire:")
    hydra = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(directory)), mode=RunMode.RUN)
    hydra.overrides = SimpleNamespace(task=["task=mrpc", "seed=0", "pruning.ratios=[2,3]"])
    monkeypatch.setattr(train.HydraConfig, "get", lambda: hydra)
    data, same = f"data_dir={tmp_path / 'glue'}", ["retrain_epochs=0", "pruning=none", "hard_attention.k=4"]

    def go(*more):
        return train.main.__wrapped__(
            configuration("task=mrpc", "model=tiny", data, *SHORT, *same, "resume=true", *more)
        )

    results = json.loads((directory / "results.json").read_text())
    accuracy = results["axformer"]["search_metrics"]["accuracy"]  # dev chooses nothing
    removed = 1 - results["axformer"]["encoder_parameters"] / results["baseline"]["encoder_parameters"]
    assert go() == accuracy
    shown = capsys.readouterr().out
    assert f"Everything is in {directory}" in shown
    assert "Next: python train.py -m seed=0,1,2 task=mrpc 'pruning.ratios=[2,3]'\n" in shown
    assert go("returned=[removed,headline]") == (removed, accuracy)
    assert "encoder parameters" in shown


@pytest.mark.slow
@QUIET
def test_the_same_seed_gives_the_same_model(run):
    _, first = run("pruning.majority=0", "pruning.tolerance=0.5", "pruning.rounds=2", name="first")
    _, second = run("pruning.majority=0", "pruning.tolerance=0.5", "pruning.rounds=2", name="second")
    assert (first / "plan.json").read_text() == (second / "plan.json").read_text()
    states = [load_pretrained(directory / "model").state_dict() for directory in (first, second)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.slow
@QUIET
def test_rewinding_and_the_whole_training_set_run_through(run):
    results, directory = run(
        "pruning.majority=0", "pruning.tolerance=0.5", "pruning.retrain=rewind", "retrain_on_all=true"
    )
    assert results["accepted"]
    assert not (directory / "start.safetensors").exists()


@QUIET
def test_nothing_to_search_for_is_plain_fine_tuning(run):
    results, directory = run("pruning=none", "hard_attention=none")
    assert results["search"]["candidates"] == 0
    assert results["baseline"]["metrics"] == results["axformer"]["metrics"]
    assert Plan.load(directory / "plan.json").decisions == ()


@pytest.mark.slow
@QUIET
def test_word_pieces_that_nothing_uses_are_left_out(run, glue, tmp_path, monkeypatch):
    (tmp_path / "corpus").write_text("a zyzzyva\na quokka\n")
    asked = []

    def trim(model, tokenizer, texts):
        asked.extend([len(tokenizer), *texts])
        return trim_vocabulary_(model, tokenizer, texts)

    monkeypatch.setattr(train, "trim_vocabulary_", trim)
    options = ["pruning=none", "hard_attention=none", "trim_vocabulary=true", f"corpus={tmp_path / 'corpus'}"]
    _, directory = run(*options, "model.vocab_size=3000")
    size, *texts = asked
    rows = load_rows("mrpc", glue)
    assert sorted(texts[:-2]) == sorted(texts_of(rows.train))
    assert texts[-2:] == ["a zyzzyva", "a quokka"]
    tokenizer = AutoTokenizer.from_pretrained(directory / "model")
    assert load_pretrained(directory / "model").config.vocab_size == len(tokenizer) < size


@pytest.mark.slow_but_first
@pytest.mark.parametrize("task", TASKS)
def test_the_headline_decides_and_is_one_of_the_metrics(task):
    cfg = configuration(f"task={task}", "pruning.criterion=metric")
    metrics = list(TASKS[task].metrics())
    assert cfg.task.headline in metrics
    if TASKS[task].kind in ("classification", "regression"):
        assert cfg.task.headline == metrics[0]  # by which rules are compared
    assert callbacks_of(cfg)[1].options["metric"] is not None


def test_a_headline_that_the_task_has_not_is_refused(run):
    with pytest.raises(ValueError, match=r"`task\.headline` .*\['accuracy', 'f1'\], got 'pearson'"):
        run("task.headline=pearson")


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("++trainer.max_epochs=3", r"`trainer\.max_epochs` to be left .*`finetune_epochs=`"),
        ("++trainer.logger=false", r"`trainer\.logger` to be left .*`logger=none`"),
        ("++trainer.default_root_dir=x", r"`trainer\.default_root_dir` to be left .*`hydra\.run\.dir=`"),
        ("finetune_epochs=-1", "`finetune_epochs` to be a whole number of at least 0, got -1"),
        ("seed=-1", "`seed` to be a whole number of at least 0, got -1"),
        ("seed=1.5", r"`seed` to be a whole number of at least 0, got 1\.5"),
        ("finetune_epochs=two", "`finetune_epochs` to be a whole number of at least 0, got 'two'"),
        ("retrain_epochs=0.5", r"`retrain_epochs` to be a whole number of at least 0, got 0\.5"),
        ("int8_retrain_epochs=-1", "`int8_retrain_epochs` to be a whole number of at least 0, got -1"),
        ("retrain_epochs=-1", "`retrain_epochs` to be a whole number of at least 0, got -1"),
        ("data.max_length=0", r"`data\.max_length` to be a whole number of at least 1, got 0"),
        ("returned=[loss]", r"`returned` to name some of headline, removed, latency, got \['loss'\]"),
        ("hard_attention.k=2.5", "`k` to be a whole number, got 2.5"),
    ],
)
def test_what_would_be_overruled_or_could_not_work_is_refused_before_anything(run, override, words):
    with pytest.raises(ValueError, match=words):
        run(override)


class Plain:
    """A logger that takes nothing."""


class Local:
    def __init__(self, save_dir, name, version):
        self.given = (save_dir, name, version)


class Remote:
    """A logger that takes the version for the id of a run."""

    def __init__(self, name=None, version=None, id=None, project=None):  # noqa: A002
        self.given = version


def test_loggers_of_any_constructor_and_several_of_them(tmp_path):
    def make(settings):
        return loggers_of(OmegaConf.create(settings), "finetune", tmp_path / "run7")

    here = "tests.test_train"
    assert isinstance(make({"_target_": f"{here}.Plain"}), Plain)
    assert make({"_target_": f"{here}.Local", "name": "logs"}).given == (str(tmp_path / "run7"), "logs", "finetune")
    assert make({"_target_": f"{here}.Local", "name": "a", "save_dir": "there"}).given[0] == "there"
    assert make({"_target_": f"{here}.Remote"}).given == "run7_finetune"
    several = make({"a": {"_target_": f"{here}.Plain"}, "b": {"_target_": f"{here}.Remote"}})
    assert [type(logger) for logger in several] == [Plain, Remote]
    assert make({}) is False


def test_a_configuration_composed_in_a_notebook_makes_its_logger(tmp_path):
    (logger,) = loggers_of(configuration("task=mrpc").logger, "finetune", tmp_path)
    assert Path(logger.log_dir) == tmp_path / "logs" / "finetune"


@pytest.fixture
def stopped_by(monkeypatch):
    """Runs train.py in a directory until something is raised, and returns the exit status."""

    def run(error, directory, mode=RunMode.RUN):
        hydra = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(directory)), mode=mode)
        monkeypatch.setattr(train.HydraConfig, "get", lambda: hydra)

        def stopped(cfg, directory):
            raise error

        monkeypatch.setattr(train, "train", stopped)
        with pytest.raises(SystemExit) as end:
            train.main.__wrapped__(configuration("task=mrpc"))
        return end.value.code

    return run


@pytest.mark.parametrize(("error", "status"), [(SIGTERMException(), 143), (KeyboardInterrupt(), 130)])
def test_a_stopped_run_says_how_to_go_on_and_fails(stopped_by, tmp_path, capsys, error, status):
    assert stopped_by(error, tmp_path) == status
    assert "Interrupted. The same command with hydra.run.dir=" in capsys.readouterr().err


class Pressed(L.LightningModule):
    def test_step(self, batch):
        raise KeyboardInterrupt


def test_ctrl_c_in_a_loop_of_lightning_is_told_from_an_exit_of_the_users(stopped_by, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)  # Lightning would let this process ignore Ctrl-C from then on
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    with pytest.raises(SystemExit) as ended:
        trainer.test(Pressed(), [0])
    assert stopped_by(ended.value, tmp_path) == 130
    assert "Interrupted." in capsys.readouterr().err
    assert stopped_by(SystemExit(3), tmp_path) == 3
    assert not capsys.readouterr().err


def test_what_stops_a_run_among_others_of_its_process_stops_them_all(stopped_by, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        stopped_by(KeyboardInterrupt(), tmp_path, RunMode.MULTIRUN)


@pytest.mark.parametrize("name", ["run", "a b", "Läufe", "it's", "a\\b"])
def test_how_to_go_on_can_be_pasted_into_a_shell(stopped_by, tmp_path, capsys, name):
    stopped_by(SIGTERMException(), tmp_path / name)
    words = shlex.split(capsys.readouterr().err.removeprefix("Interrupted. The same command with "))
    directory, resume = OverridesParser.create().parse_overrides(words[:2])
    assert (directory.key_or_group, directory.value()) == ("hydra.run.dir", str(tmp_path / name))
    assert (resume.key_or_group, resume.value(), words[2:]) == ("resume", True, ["goes", "on."])


def test_the_tiny_model_fits_the_longest_sample():
    assert configuration("task=squad", "model=tiny").model.config.max_position_embeddings == 384
    assert configuration().model.config.max_position_embeddings == 128


def test_rewinding_without_retraining_is_refused(run):
    with pytest.raises(ValueError, match=r"`retrain_epochs` of at least 1"):
        run("pruning.retrain=rewind", "retrain_epochs=0")


@pytest.mark.parametrize(("choice", "known"), [("task=colla", "mrpc"), ("model=bart", "minilm")])
def test_an_unknown_choice_lists_the_known_ones(choice, known):
    with pytest.raises(MissingConfigException, match=f"(?s){choice.replace('=', '/')}.*{known}"):
        configuration(choice)


@pytest.mark.parametrize(
    ("full", "mode", "error"),
    [("0", RunMode.RUN, SystemExit), ("1", RunMode.RUN, FileNotFoundError), ("0", RunMode.MULTIRUN, FileNotFoundError)],
)
def test_a_mistake_of_the_user_ends_in_a_sentence_and_not_in_a_traceback(tmp_path, monkeypatch, full, mode, error):
    (tmp_path / "run").mkdir()
    hydra = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(tmp_path / "run")), mode=mode)
    monkeypatch.setattr(train.HydraConfig, "get", lambda: hydra)
    monkeypatch.setenv("HYDRA_FULL_ERROR", full)
    with pytest.raises(error, match="Expected the official file"):
        train.main.__wrapped__(configuration("task=mrpc", f"data_dir={tmp_path}", "++trainer.accelerator=cpu"))


def test_a_directory_in_use_ends_in_a_sentence_as_well(tmp_path, monkeypatch):
    hydra = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(tmp_path)), mode=RunMode.RUN)
    monkeypatch.setattr(train.HydraConfig, "get", lambda: hydra)
    (tmp_path / ".resume").mkdir()
    with locked(tmp_path), pytest.raises(SystemExit, match="which a live process uses"):
        train.main.__wrapped__(configuration())
