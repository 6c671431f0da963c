"""Lightning's progress bar, with epochs counted from 1."""

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from typing_extensions import override


class EpochsFromOne(RichProgressBar):
    """Shows "Epoch 1/3" where Lightning's own bar shows "Epoch 0/2"."""

    @override
    def _get_train_description(self, current_epoch: int) -> str:
        epochs = self.trainer.max_epochs
        total = "" if epochs is None or epochs < 0 else f"/{epochs}"
        # As wide as the other description, so that the bar does not flicker.
        return f"Epoch {current_epoch + 1}{total}".ljust(len(self.validation_description))


def count_epochs_from_one_(trainer: L.Trainer) -> None:
    """Put that bar in the place of the one that Lightning chose; a bar of the user's own stays."""
    trainer.callbacks = [  # type: ignore[attr-defined]
        EpochsFromOne() if type(callback) is RichProgressBar else callback
        for callback in trainer.callbacks  # type: ignore[attr-defined]
    ]
