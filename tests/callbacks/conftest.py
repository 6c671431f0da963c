"""A LightningModule that is quick to train, with a task of which something can be removed."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader


class Classifier(L.LightningModule):
    """Holds its model under a name of its own; labels depend on one word."""

    def __init__(self, transformer, learning_rate=1e-3):
        super().__init__()
        self.anything = transformer
        self.learning_rate = learning_rate

    def forward(self, **batch):
        return self.anything(**batch)

    def training_step(self, batch, batch_idx):
        return self(**batch).loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self(**batch).loss)

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self(**batch).loss)

    def predict_step(self, batch, batch_idx):
        return self(**batch).logits

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def samples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(5, 50, (count, 10), generator=generator)
    labels = (words[:, 1] > 27).long()
    return [
        {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": label}
        for ids, label in zip(words, labels, strict=True)
    ]


def loader(count, seed, **options):
    return DataLoader(samples(count, seed), batch_size=16, **options)


@pytest.fixture
def module(tiny):
    return Classifier(tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2).train())


@pytest.fixture
def search_loader():
    return loader(48, seed=2)


@pytest.fixture
def fit(tmp_path):
    """Fits a module and returns the trainer."""

    def run(module, callbacks, max_epochs=3, ckpt_path=None, shuffle=True, **options):
        L.seed_everything(7, verbose=False)
        options = {"logger": False, "enable_checkpointing": False, "default_root_dir": tmp_path} | options
        trainer = L.Trainer(
            max_epochs=max_epochs,
            callbacks=list(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            deterministic=True,
            **options,
        )
        train = loader(64, 0, shuffle=shuffle, generator=torch.Generator().manual_seed(3))
        trainer.fit(module, train, loader(32, 1), ckpt_path=ckpt_path)
        return trainer

    return run
