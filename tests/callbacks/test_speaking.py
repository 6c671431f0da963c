"""The search speaks in a user's fit."""

import logging
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger

from axformer_lightning import AccuracyDrivenPruningCallback, find_plan
from axformer_lightning.callbacks.speaking import speak
from tests.callbacks.conftest import loader

LENIENT = {"neuron_groups": 4, "majority": 0, "tolerance": 2.0, "criterion": "loss"}


def run(module, callback, tmp_path, bar=None, **options):
    trainer = L.Trainer(
        max_epochs=1,
        callbacks=[callback, *([] if bar is None else [bar])],
        enable_progress_bar=bar is not None,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        accelerator="cpu",
        **{"logger": False} | options,
    )
    trainer.fit(module, loader(32, 0), loader(16, 1))


class Records(Logger):
    """A logger that takes pictures."""

    def __init__(self, experiment=None):
        super().__init__()
        self.numbers, self.pictures, self._experiment = {}, {}, experiment

    name, version = "records", 0

    @property
    def experiment(self):
        return self._experiment

    def log_hyperparams(self, params):
        pass

    def log_metrics(self, metrics, step=None):
        self.numbers |= metrics

    def log_image(self, key, images, **options):
        self.pictures[key] = Path(images[0]).read_bytes()[:4]


def size(module):
    return sum(parameter.numel() for parameter in module.anything.parameters())


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [message for message in caplog.messages if message.startswith("AxFormer: ")]


def test_a_round_ends_with_one_sentence_and_tells_the_loggers(module, search_loader, tmp_path, said):
    callback, records = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader), Records()
    before = size(module)
    run(module, callback, tmp_path, logger=[records, CSVLogger(tmp_path)])
    (sentence,) = said()
    decisions = callback.plan.decisions
    accepted = [decision for decision in decisions if decision.accepted]
    assert f"{len(accepted)} of {len(decisions)} candidates accepted in 2 layers" in sentence
    assert f"{before:,} parameters become {size(module):,} (-" in sentence
    assert f"loss {decisions[0].best_before:.4f} -> {accepted[-1].loss:.4f}." in sentence
    numbers = {name.removeprefix("axformer/"): value for name, value in records.numbers.items() if "axformer" in name}
    assert numbers == {
        "candidates": len(decisions),
        "accepted": len(accepted),
        "parameters_before": before,
        "parameters": size(module),
        "layers_touched": 2,
        "loss_before": pytest.approx(decisions[0].best_before),
        "loss": pytest.approx(accepted[-1].loss),
    }
    assert records.pictures == {"axformer/plan": b"\x89PNG"}


def test_a_round_that_removes_nothing_says_what_would_remove_more(module, search_loader, tmp_path, said):
    callback = AccuracyDrivenPruningCallback(neuron_groups=1, majority=0.99, search_dataloader=search_loader)
    run(module, callback, tmp_path)
    (sentence,) = said()
    assert "nothing is removed. A larger `tolerance=`" in sentence


def test_a_plan_that_removes_nothing_says_so(module, search_loader, caplog):
    assert find_plan(module, list(search_loader), neuron_groups=1, majority=0.99, hard_attention_k=None).removes_nothing
    assert "The plan removes nothing" in caplog.text


def test_tensorboard_gets_a_figure(module, search_loader, tmp_path):
    figures = {}
    experiment = SimpleNamespace(add_figure=lambda name, figure, step: figures.update({name: figure}))
    logger = SimpleNamespace(experiment=experiment, log_metrics=lambda *args: None)
    callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader)
    run(module, callback, tmp_path)
    trainer = SimpleNamespace(loggers=[logger], global_step=3, is_global_zero=True)
    speak(trainer, callback.plan, {"candidates": 1, "accepted": 0})
    assert list(figures) == ["axformer/plan"]


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("bar", "line"),
    [(None, None), (TQDMProgressBar, "Search: "), (lambda: RichProgressBar(leave=True), " accepted, loss")],
)
def test_progress_is_shown_as_the_trainer_shows_it(module, search_loader, tmp_path, capfd, bar, line):
    callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader)
    run(module, callback, tmp_path, None if bar is None else bar())
    out, err = capfd.readouterr()
    assert line is None or line in out + err
    assert line is not None or "Search: " not in out + err
