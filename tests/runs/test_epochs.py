"""How the progress bar counts epochs."""

import lightning as L
import pytest
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.demos.boring_classes import BoringModel

from axformer_lightning.runs.epochs import EpochsFromOne, count_epochs_from_one_

QUIET = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}


class Described(EpochsFromOne):
    """Takes down what it would show."""

    said = ()

    def _get_train_description(self, current_epoch):
        text = super()._get_train_description(current_epoch)
        self.said = (*self.said, text.strip())
        return text


@pytest.mark.filterwarnings("ignore:The .*dataloader")
def test_the_first_epoch_is_epoch_1_and_the_last_one_ends_the_count():
    bar = Described()
    trainer = L.Trainer(max_epochs=3, limit_train_batches=1, limit_val_batches=0, callbacks=[bar], **QUIET)
    trainer.fit(BoringModel())
    assert list(dict.fromkeys(bar.said)) == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]


def test_lightnings_own_bar_is_replaced_and_a_users_is_not():
    trainer = L.Trainer(**QUIET)
    count_epochs_from_one_(trainer)
    assert type(trainer.progress_bar_callback) is EpochsFromOne

    class Own(RichProgressBar):
        pass

    own = Own()
    trainer = L.Trainer(callbacks=[own], **QUIET)
    count_epochs_from_one_(trainer)
    assert trainer.progress_bar_callback is own
