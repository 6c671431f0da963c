"""What a round reads of the search set."""

import lightning as L
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from axformer_lightning import AccuracyDrivenPruningCallback
from tests.callbacks.conftest import Classifier, loader, samples

MODES = ("sequential", "min_size", "max_size", "max_size_cycle")


class Endless(IterableDataset):
    """Yields samples for ever, and counts them."""

    def __init__(self):
        self.read = 0

    def __iter__(self):
        while True:
            self.read += 1
            assert self.read < 500, "reads on"
            yield samples(1, self.read)[0]


class Several(Classifier):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val_loss", self(**batch).loss)


def run(module, validation, tmp_path, **options):
    trainer = L.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        accelerator="cpu",
        **options,
    )
    trainer.fit(module, loader(32, 0), validation)


@pytest.mark.parametrize("others", [0, 1])
def test_no_more_is_read_of_an_endless_validation_set_than_its_limit(tiny, tmp_path, others):
    module, data = Several(tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=1).train()), Endless()
    loaders = [DataLoader(data, 8), *[loader(16, 1)] * others]
    callback = AccuracyDrivenPruningCallback(neuron_groups=1)
    run(module, loaders, tmp_path, callbacks=[callback], limit_val_batches=2, num_sanity_val_steps=0)
    assert callback.plan.decisions[0].samples_seen == 16 + 16 * others
    assert data.read <= 3 * 2 * 8  # validation, the check before training, and the search


class Pairs(Classifier):
    """Validates on batches of a combined loader, and says its own losses on them."""

    def __init__(self, *args):
        super().__init__(*args)
        self.seen, self.validated = [], []

    def parts(self, batch):
        return [part for part in (batch.values() if "a" in batch else [batch]) if part is not None]

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.validated.append(sum(len(part["labels"]) for part in self.parts(batch)))

    def axformer_step(self, batch):
        logits = torch.cat([self(**part).logits for part in self.parts(batch)])
        labels = torch.cat([part["labels"] for part in self.parts(batch)])
        self.record(len(labels))
        return nn.functional.cross_entropy(logits, labels, reduction="none"), logits.argmax(-1), labels


@pytest.mark.slow_but_first
@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("given", [False, True])
def test_loaders_are_combined_as_in_validation(tiny, tmp_path, mode, limit, given):
    module, seen = Pairs(tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=1).train()), []
    module.record = seen.append
    loaders = {"a": loader(48, 1), "b": loader(16, 2)}
    search = CombinedLoader(loaders, mode) if given else None
    callback = AccuracyDrivenPruningCallback(neuron_groups=1, search_dataloader=search, full_scores=True)
    options = {"limit_val_batches": limit} if limit else {}
    run(module, CombinedLoader(loaders, mode), tmp_path, callbacks=[callback], num_sanity_val_steps=0, **options)
    expected = sum(module.validated)
    if not (given and limit):
        assert callback.plan.decisions[0].samples_seen == expected
