"""The search set comes from where users have it."""

import copy
import logging
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import Dataset

from axformer_lightning import AccuracyDrivenPruningCallback, HardAttentionCallback, Int8Callback
from axformer_lightning.callbacks.search_set import search_set
from tests.callbacks.conftest import Classifier, loader, samples
from tests.models import make_model

OPTIONS = {"neuron_groups": 1}


class Data(L.LightningDataModule):
    """Makes its sets in setup."""

    def __init__(self):
        super().__init__()
        self.ready = None

    def setup(self, stage=None):
        self.ready = 48

    def train_dataloader(self):
        return loader(32, 0)

    def val_dataloader(self):
        return loader(self.ready // 3, 1)


class WithSearchSet(Data):
    def search_dataloader(self):
        return loader(self.ready, 2)


GIVEN = {
    "batches": lambda: loader(48, 2),
    "a list": lambda: list(loader(48, 2)),
    "a function": lambda: partial(loader, 48, 2),
    "a generator function": lambda: generate,
    "a DataModule": WithSearchSet,
    "its method": lambda: ready(WithSearchSet()).search_dataloader,
}


def generate():
    yield from loader(48, 2)


def ready(data):
    data.setup()
    return data


@pytest.mark.slow_but_first
@pytest.mark.parametrize("make", GIVEN.values(), ids=GIVEN)
def test_what_is_given_decides(module, fit, make, caplog):
    callback = AccuracyDrivenPruningCallback(**OPTIONS, rounds=2, search_dataloader=make())
    with caplog.at_level(logging.WARNING):
        fit(module, [HardAttentionCallback(k=4, rounds=2), callback], max_epochs=2)
    assert {decision.samples_seen for decision in callback.plan.decisions} <= {16, 32, 48}
    assert callback.plan.decisions[0].samples_seen == 48
    assert {decision.round for decision in callback.plan.decisions} == {1, 2}
    assert "decides by the validation dataloader" not in caplog.text


@pytest.mark.parametrize("given", [WithSearchSet, partial(WithSearchSet)], ids=["a class", "a function"])
def test_what_makes_a_datamodule_is_called(given):
    found = search_set(SimpleNamespace(datamodule=None), None, given)
    assert sum(len(batch["labels"]) for batch in found) == 48


def test_samples_that_are_no_batches_are_told_to_go_into_a_dataloader(module, fit):
    pruning = AccuracyDrivenPruningCallback(search_dataloader=list(loader(4, 2).dataset))
    with pytest.raises(ValueError, match=r"got a single sample.*Put samples into a DataLoader") as error:
        fit(module, [pruning])
    assert "axformer_step" not in str(error.value) + str(error.value.__notes__)


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("given", "rounds"), [(lambda: generate, 1), (generate, 1), (generate, 2)])
def test_what_is_read_once_serves_every_step_of_every_round(module, fit, given, rounds):
    pruning = AccuracyDrivenPruningCallback(repair=True, full_scores=True, rounds=rounds, search_dataloader=given())
    later = Int8Callback(tolerance=9.0, first_epoch=rounds - 1)
    fit(module, [pruning, later], max_epochs=rounds)
    assert {decision.samples_seen for decision in later.plan.decisions} == {48}
    assert later.plan.decisions[-1].kind.startswith("int8")
    assert later.plan.decisions[-1].round >= rounds


@pytest.mark.slow_but_first
@pytest.mark.parametrize("make", GIVEN.values(), ids=GIVEN)
def test_there_is_one_search_set_for_all_callbacks_of_a_model(module, fit, make):
    given, others = make(), [list(loader(16, 3)), loader(16, 3), generate(), partial(loader, 16, 3), Data()]
    for other in others:
        callbacks = [HardAttentionCallback(search_dataloader=given), Int8Callback(search_dataloader=other)]
        for ordered in (callbacks, callbacks[::-1]):
            with pytest.raises(ValueError, match=r"agree on `search_dataloader`.*Leave it out in all but one"):
                fit(module, ordered, max_epochs=1)
    shared = [HardAttentionCallback(k=4, search_dataloader=given), Int8Callback(search_dataloader=given)]
    fit(module, shared, max_epochs=1)
    assert shared[0].plan.decisions[0].samples_seen == 48


def test_a_method_is_the_same_search_set_whenever_it_is_asked_for(module, fit):
    data = ready(WithSearchSet())
    fit(module, [kind(search_dataloader=data.search_dataloader) for kind in (HardAttentionCallback, Int8Callback)])


def run(module, data, tmp_path, callback):
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = L.Trainer(
        max_epochs=1, callbacks=[callback], default_root_dir=tmp_path, enable_model_summary=False, **options
    )
    trainer.fit(module, datamodule=data)
    return callback.plan.decisions[0].samples_seen


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("data", "seen"), [(WithSearchSet, 48), (Data, 16)])
def test_a_method_of_the_datamodule_is_found(module, tmp_path, data, seen):
    assert run(module, data(), tmp_path, AccuracyDrivenPruningCallback(**OPTIONS, full_scores=True)) == seen


def test_a_datamodule_without_that_method_gives_its_validation_set(module, tmp_path):
    assert run(module, Data(), tmp_path, AccuracyDrivenPruningCallback(**OPTIONS, search_dataloader=Data())) == 16


@pytest.mark.slow
def test_a_method_of_the_module_is_found(module, tmp_path):
    module.search_dataloader = partial(loader, 48, 2)
    assert run(module, Data(), tmp_path, AccuracyDrivenPruningCallback(**OPTIONS)) == 48
    assert run(module, WithSearchSet(), tmp_path, AccuracyDrivenPruningCallback(**OPTIONS)) == 48


class WithSeveral(Data):
    """Has as many validation sets as it is given, under names or not."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def val_dataloader(self):
        return self.make([loader(16, 1), loader(32, 2)])


@pytest.mark.slow_but_first
@pytest.mark.parametrize("make", [list, tuple, lambda loaders: dict(zip("ab", loaders, strict=True))])
@pytest.mark.parametrize("kind", ["loaders", "a DataModule", "its method"])
def test_several_loaders_decide_together(module, tmp_path, make, kind):
    data = WithSeveral(make)
    given = {"loaders": data.val_dataloader(), "a DataModule": data, "its method": data.val_dataloader}[kind]
    assert run(module, Data(), tmp_path, AccuracyDrivenPruningCallback(**OPTIONS, search_dataloader=given)) == 48


def test_one_batch_is_no_search_set(module):
    batch = next(iter(loader(16, 1)))
    with pytest.raises(TypeError, match=r"to be batches, got dict, which is one batch: .*`\[batch\]`"):
        search_set(SimpleNamespace(datamodule=None), None, batch)


@pytest.mark.parametrize("given", [3, lambda: 3])
def test_what_is_no_search_set_is_refused_by_name(given):
    with pytest.raises(TypeError, match=r"Expected `search_dataloader` to be batches.*got "):
        search_set(SimpleNamespace(datamodule=None), None, given)


def drawn():
    """Batches in an order that is drawn whenever they are asked for."""
    order = torch.randperm(16)
    return [{name: value[order] for name, value in batch.items()} for batch in loader(16, 2)]


class Drawn(L.LightningDataModule):
    """Draws what it holds out."""

    def setup(self, stage):
        self.held_out = drawn()

    def val_dataloader(self):
        return self.held_out


DRAWING = {
    "a loader with the generator of training": lambda own: loader(48, 2, shuffle=True, generator=own),
    "a function": lambda own: drawn,
    "a DataModule": lambda own: Drawn(),
    "the validation set": lambda own: None,
}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("kind", DRAWING)
def test_what_the_search_set_draws_is_not_drawn_from_training(module, kind):
    class Order(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append((batch["labels"].tolist(), torch.get_rng_state().sum().item()))

    plain, seen, orders = copy.deepcopy(module), [], []
    for one, searches in ((plain, False), (module, True)):
        L.seed_everything(7, verbose=False)
        own = torch.Generator().manual_seed(1)
        callback = AccuracyDrivenPruningCallback(majority=0.99, search_dataloader=DRAWING[kind](own))
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
        trainer = L.Trainer(max_epochs=3, callbacks=[Order(), *[callback] * searches], **options)
        trainer.fit(one, loader(64, 0, shuffle=True, generator=own), loader(32, 1, generator=own))
        orders.append(seen.copy())
        seen.clear()
    assert callback.plan.decisions
    assert orders[0] == orders[1]


def test_samples_are_refused_as_they_are_no_batches():
    class Samples(Dataset):
        def __getitem__(self, index):
            return samples(1, index)[0]

        def __iter__(self):
            raise AssertionError

    with pytest.raises(TypeError, match=r"got Samples\. Put samples into a DataLoader"):
        search_set(SimpleNamespace(datamodule=None), None, Samples())


CLI = Path(__file__).parents[2] / "docs" / "examples" / "cli.yaml"


class CliModule(Classifier):
    def __init__(self, hidden_size: int = 32):
        super().__init__(make_model("bert", "sdpa", num_labels=2, num_hidden_layers=1, hidden_size=hidden_size).train())


def named_loader():
    return loader(32, 2)


def settings(name=None, of_lightning=True):
    """The page's YAML, as quick as it gets."""
    config = yaml.safe_load(CLI.read_text(encoding="utf-8"))
    config["trainer"] |= {"max_epochs": 1, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    config["trainer"] |= {"enable_progress_bar": False, "enable_model_summary": False}
    for callback in config["trainer"]["callbacks"]:
        callback["init_args"]["first_epoch"] = 0
    if name is not None:
        callback["init_args"]["search_dataloader"] = name
    return config


@pytest.mark.slow_but_first
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "seen"), [(None, 48), ("tests.callbacks.test_search_set.named_loader", 32)])
def test_the_yaml_of_the_page_runs(tmp_path, monkeypatch, name, seen):
    pytest.importorskip("jsonargparse")
    monkeypatch.chdir(tmp_path)
    cli = LightningCLI(
        CliModule, WithSearchSet, args={"fit": settings(name), "subcommand": "fit"}, save_config_callback=None
    )
    plan = cli.trainer.callbacks[-1].plan
    assert plan.decisions[0].samples_seen == seen


@pytest.mark.filterwarnings("ignore")
def test_the_older_package_takes_the_callbacks_as_defaults(tmp_path, monkeypatch):
    pytest.importorskip("jsonargparse")
    older = pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.cli import LightningCLI as OlderCLI

    class Module(older.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = make_model("bert", "sdpa", num_labels=2, num_hidden_layers=1).train()

        def forward(self, **batch):
            return self.net(**batch)

        def training_step(self, batch, batch_idx):
            return self(**batch).loss

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self(**batch).loss)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters())

    class OlderData(older.LightningDataModule):
        train_dataloader = Data.train_dataloader
        search_dataloader = lambda self: loader(48, 2)  # noqa: E731
        val_dataloader = lambda self: loader(16, 1)  # noqa: E731

    monkeypatch.chdir(tmp_path)
    config, callback = settings(), AccuracyDrivenPruningCallback(**OPTIONS)
    config["trainer"].pop("callbacks")
    args = {"fit": config, "subcommand": "fit"}
    OlderCLI(Module, OlderData, args=args, trainer_defaults={"callbacks": [callback]}, save_config_callback=None)
    assert callback.plan.decisions[0].samples_seen == 48
