"""Training that goes on: in a run, and for a model by itself."""

from pathlib import Path

import lightning as L
from datasets import Dataset
from lightning.pytorch.utilities.seed import isolate_rng
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from axformer_lightning.tasks.kinds import KINDS
from axformer_lightning.tasks.module import FineTuner
from axformer_lightning.tasks.task import Task
from axformer_lightning.training import StartingPoint

GRADIENT_CLIP = 1.0  # as in conf/trainer/default.yaml, which tests/test_train.py checks


def retrain(
    module: FineTuner,
    data: L.LightningDataModule,
    trainer: L.Trainer,
    *,
    start: StartingPoint | None = None,
    checkpoint: Path | None = None,
) -> None:
    """Train a module, with a learning rate that rises and falls over the epochs of ``trainer``.

    Args:
        module: dense or cut.
        data: gives the training set.
        trainer: has not trained yet.
        start: where the weights are rewound to first; None keeps them.
        checkpoint: of an epoch of this very training, to go on from.
    """
    if start is not None:
        start.rewind_(module, module.model)
    # Lightning leaves a model in eval mode as it is, without dropout.
    trainer.fit(module.train(), data, ckpt_path=checkpoint, weights_only=True)


def train_again(
    model: PreTrainedModel,
    task: Task,
    train: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int = 32,
    max_length: int = 128,
    seed: int = 0,
) -> None:
    """Train a model by itself some epochs more, as a run does after a cut.

    With the same seed every model sees the same samples in the same order. Global random states stay as they are.

    Args:
        model: dense or cut; trained in place, on its device's kind.
        task: what it does.
        train: rows to train on.
        tokenizer: of the model.
        epochs: how many.
        learning_rate: the highest.
        batch_size: samples of a batch.
        max_length: tokens after which a sample is cut off.
        seed: of the order and of dropout.

    Raises:
        ValueError: if ``batch_size`` is below 1.
    """
    make_data, make_module = KINDS[task.kind]
    unused = train.select([0])  # nothing is validated, but a tokenizer takes no empty list
    data = make_data(train, unused, {}, tokenizer, batch_size=batch_size, max_length=max_length, seed=seed)
    module = make_module(model, task, data, learning_rate=learning_rate)
    with isolate_rng():
        L.seed_everything(seed, workers=True, verbose=False)
        trainer = L.Trainer(
            accelerator="gpu" if model.device.type == "cuda" else "cpu",
            devices=1,
            max_epochs=epochs,
            gradient_clip_val=GRADIENT_CLIP,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        retrain(module, data, trainer)
