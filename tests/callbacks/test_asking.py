"""What a module finds while it is scored in a fit, and what it can leave behind."""

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import Logger
from torch import nn

from axformer_lightning import AccuracyDrivenPruningCallback
from tests.callbacks.conftest import Classifier, loader

LENIENT = {"neuron_groups": 4, "majority": 0, "tolerance": 2.0}


@pytest.fixture
def pruning(search_loader):
    return AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader)


def smoothed(self, batch, batch_idx):
    """A training step with another loss than the search would score by."""
    return nn.functional.cross_entropy(self(**batch).logits, batch["labels"], label_smoothing=0.5)


def uses_optimizers(self, batch, batch_idx):
    self.log("rate", self.optimizers().param_groups[0]["lr"])
    return smoothed(self, batch, batch_idx)


def takes_all(self, *args, **kwargs):
    return smoothed(self, *args, **kwargs)


def that_learns_by(module, training_step):
    """A module that says its loss in `training_step` alone."""

    def forward(self, **batch):
        return self.anything(**{name: value for name, value in batch.items() if name != "labels"})

    members = {"training_step": training_step, "validation_step": lambda self, batch, i: None, "forward": forward}
    module.__class__ = type("Smooth", (Classifier,), members)
    return module


def test_what_is_augmented_in_training_is_not_augmented_for_the_search(module, fit, pruning):
    found = []

    def on_after_batch_transfer(self, batch, dataloader_idx):
        if len(batch["labels"]) == 8:  # of the search set
            found.append((self.trainer.training, self.trainer.validating, self.training, torch.is_grad_enabled()))
        return batch

    module.__class__ = type("Augments", (Classifier,), {"on_after_batch_transfer": on_after_batch_transfer})
    pruning.search_dataloader = torch.utils.data.DataLoader(loader(48, 2).dataset, batch_size=8)
    trainer = fit(module, [pruning], max_epochs=2)
    assert pruning.rounds_done == 1
    assert len(found) > 6
    assert set(found) == {(False, True, False, False)}
    assert trainer.state.stage is None  # as Lightning leaves it


def test_a_step_that_scores_finds_the_stage_of_a_validation_and_training_goes_on_in_its_own(module, fit, pruning):
    found, trained = set(), set()

    def axformer_step(self, batch):
        found.add(self.trainer.training)
        logits = self(**batch).logits
        return nn.functional.cross_entropy(logits, batch["labels"], reduction="none"), logits.argmax(1), batch["labels"]

    def training_step(self, batch, batch_idx):
        trained.add((self.trainer.training, self.training))
        return self(**batch).loss

    members = {"axformer_step": axformer_step, "training_step": training_step}
    module.__class__ = type("Scores", (Classifier,), members)
    fit(module, [pruning], max_epochs=2)
    assert (found, trained) == ({False}, {(True, True)})


class Notes(Logger):
    """Takes down what it is told directly."""

    name = version = "notes"

    def __init__(self):
        super().__init__()
        self.said = []

    @property
    def experiment(self):
        return self

    def say(self, what):
        self.said.append(what)

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, *args, **kwargs):
        pass


def test_what_goes_straight_to_a_logger_is_dropped_while_a_module_is_tried(module, fit, pruning):
    def training_step(self, batch, batch_idx):
        self.logger.experiment.say(self.global_step)
        return self(**batch).loss

    module.__class__ = type("Speaks", (Classifier,), {"training_step": training_step})
    notes = Notes()
    fit(module, [pruning], max_epochs=2, logger=notes)
    assert notes.said == list(range(8))


def test_a_scheduler_that_a_step_moves_is_brought_back_after_the_trial(module, fit, pruning):
    rates = []

    def training_step(self, batch, batch_idx):
        loss = self(**batch).loss
        self.lr_schedulers().step()
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        halving = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        parts = torch.optim.lr_scheduler.SequentialLR(optimizer, [halving], milestones=[])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": parts, "frequency": 100}}

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    members = {"training_step": training_step, "configure_optimizers": configure_optimizers}
    module.__class__ = type("Steps", (Classifier,), members)
    fit(module, [pruning, Watch()], max_epochs=1)
    assert rates == [1.0, 0.5, 0.25, 0.125]


@pytest.mark.parametrize("step", [uses_optimizers, takes_all])
def test_a_training_step_is_tried_with_all_that_training_gives_it(module, fit, pruning, step):
    with pytest.raises(ValueError, match="by the loss that it learns by"):
        fit(that_learns_by(module, step), [pruning])


def test_a_validation_set_that_nothing_has_read_yet_is_tried_before_the_first_step(module, fit):
    callback = AccuracyDrivenPruningCallback(**LENIENT)
    with pytest.raises(ValueError, match="by the loss that it learns by"):
        fit(that_learns_by(module, smoothed), [callback], num_sanity_val_steps=0, check_val_every_n_epoch=2)
