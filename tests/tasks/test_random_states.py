"""Random numbers after a resume are those of a run that was not interrupted."""

import random

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from axformer_lightning.tasks.random_states import RandomStates, SeededOrder, random_states, set_random_states


def drawn():
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()


def test_every_global_generator_goes_on(tmp_path):
    drawn()  # of each pair of normal numbers one is kept for the next call
    torch.save(random_states(), tmp_path / "states.pt")
    expected = drawn()
    set_random_states(torch.load(tmp_path / "states.pt", weights_only=True))
    assert drawn() == expected


class Recorder(L.LightningModule):
    """Writes down what it sees and draws."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(1, 1), []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch.flatten().tolist(), drawn()))
        return self.layer(batch).mean()

    def validation_step(self, batch, batch_idx):
        drawn()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Numbers(L.LightningDataModule):
    def __init__(self):
        super().__init__()
        self.order = SeededOrder(3)

    def train_dataloader(self):
        return DataLoader(torch.arange(8.0)[:, None], 2, shuffle=True, generator=self.order.begin())

    def val_dataloader(self):
        return DataLoader(torch.arange(4.0)[:, None], 2)

    def state_dict(self):
        return self.order.state_dict()

    def load_state_dict(self, state_dict):
        self.order.load_state_dict(state_dict)


class Saver(L.Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}.ckpt", weights_only=False)


@pytest.fixture
def fit(tmp_path):
    def run(ckpt_path=None):
        L.seed_everything(5 if ckpt_path is None else 6, verbose=False)
        module = Recorder()
        trainer = L.Trainer(
            max_epochs=4, callbacks=[RandomStates(), Saver(tmp_path)], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, Numbers(), ckpt_path=ckpt_path, weights_only=None if ckpt_path is None else True)
        return module.seen, drawn()

    return run


@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_order_and_dropout_go_on_after_any_epoch(fit, tmp_path, epoch):
    seen, after = fit()
    assert seen[0][1] + seen[1][1] != seen[4][1] + seen[5][1]
    assert fit(tmp_path / f"{epoch}.ckpt") == (seen[4 * epoch + 4 :], after)


def test_every_fit_begins_with_the_same_order():
    data = Numbers()
    first, second = ([batch.flatten().tolist() for batch in data.train_dataloader()] for _ in range(2))
    assert first == second


def test_a_state_is_taken_for_one_fit_only():
    order = SeededOrder(3)
    torch.rand(1, generator=order.begin())
    state, expected = order.state_dict(), torch.rand(1, generator=order.generator)
    order.load_state_dict(state)
    assert torch.equal(torch.rand(1, generator=order.begin()), expected)
    assert torch.equal(
        torch.rand(1, generator=order.begin()), torch.rand(1, generator=torch.Generator().manual_seed(3))
    )
