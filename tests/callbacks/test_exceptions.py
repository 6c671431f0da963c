"""A fit that an exception ends leaves nothing behind but what it is resumed by."""

import lightning as L
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from axformer_lightning import AccuracyDrivenPruningCallback
from axformer_lightning.callbacks.monitors import HELD, hold_monitors

LENIENT = {"neuron_groups": 4, "majority": 0, "tolerance": 2.0}


class Boom(L.Callback):
    """Breaks a fit off between a cut and the next validation."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == 1:
            raise MemoryError("of a training step")


@pytest.fixture
def saver(tmp_path):
    return ModelCheckpoint(tmp_path / "saved", monitor="val_loss", save_top_k=-1)


@pytest.mark.slow_but_first
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("retrain", ["continue", "rewind"])
def test_after_an_exception_the_next_fit_saves_and_loads_as_ever(module, fit, search_loader, saver, tmp_path, retrain):
    callback = AccuracyDrivenPruningCallback(**LENIENT, retrain=retrain, search_dataloader=search_loader)
    with pytest.raises(MemoryError):
        fit(module, [saver, callback, Boom()], enable_checkpointing=True)
    assert not module.anything.axformer_plan.removes_nothing
    assert HELD not in vars(saver)
    assert "on_load_checkpoint" not in vars(module)
    assert not list(tmp_path.rglob("axformer_start_*"))
    (journal,) = tmp_path.rglob("axformer_search_*")  # by which a resumed fit goes on
    assert len(list((tmp_path / "saved").iterdir())) == 1
    fit(module, [saver, callback], enable_checkpointing=True)
    assert len(list((tmp_path / "saved").iterdir())) > 1
    assert journal.exists()


def test_checkpoints_that_were_held_are_written_in_the_next_fit(module, fit, search_loader, saver):
    hold_monitors(L.Trainer(callbacks=[saver], logger=False, accelerator="cpu"))
    callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader)
    fit(module, [saver, callback], max_epochs=1, enable_checkpointing=True)
    assert saver.best_model_path
