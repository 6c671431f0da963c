"""Training that goes on: in a run, and for a model by itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import lightning as L
from datasets import Dataset
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.utilities.seed import isolate_rng
from torchmetrics import Metric
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typing_extensions import override

from axformer_lightning.tasks.kinds import KINDS
from axformer_lightning.tasks.module import FineTuner
from axformer_lightning.tasks.task import Task
from axformer_lightning.tasks.task_data import TaskData
from axformer_lightning.training import StartingPoint

GRADIENT_CLIP = 1.0  # as in conf/trainer/default.yaml, which tests/test_train.py checks


@dataclass(frozen=True)
class Recipe:
    """How a run trains a model once more after each cut.

    Args:
        epochs: how many; 0 trains nothing.
        how: ``"continue"`` with the weights, or ``"rewind"`` to those before fine-tuning.
        on_all: whether the last retraining also trains on the search set.
        learning_rate: the highest; None for that of fine-tuning.
        ema: decay of a moving average of the weights, which is kept in their place; None for none.
        keep: ``"last"``, what comes out; or of the model before and after, by the search set, ``"better"``, the one
            with the lower loss (at the best temperature of a classifier, on the best scale of numbers), or
            ``"better_metric"``, the one with the better ``headline``, if equal the lower loss.
        headline: the name of the metric.
        taught: whether a teacher takes part.
        dropout: the share that dropouts drop meanwhile; None for their own.

    Raises:
        ValueError: if a setting is out of range, or two do not go together.
    """

    epochs: int
    how: str = "continue"
    on_all: bool = False
    learning_rate: float | None = None
    ema: float | None = None
    keep: str = "last"
    headline: str = "accuracy"
    taught: bool = False
    dropout: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 and (self.how == "rewind" or self.taught):
            what = "pruning.retrain=rewind" if self.how == "rewind" else "a teacher (`distillation`)"
            raise ValueError(f"Expected `retrain_epochs` of at least 1 with {what}, got {self.epochs}.")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise ValueError(f"Expected `retrain_learning_rate` to be a number above 0, got {self.learning_rate}.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"Expected `retrain_ema`, the decay of an average, between 0 and 1, got {self.ema}.")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"Expected `retrain_dropout`, a share, from 0 to below 1, got {self.dropout}.")
        if self.keep not in ("last", "better", "better_metric"):
            raise ValueError(f"Expected `retrain_keep` to be 'last', 'better' or 'better_metric', got {self.keep!r}.")
        if self.compares and self.on_all:
            raise ValueError(
                f"Expected `retrain_keep=last` with `retrain_on_all=true`, got {self.keep!r}, which the search set"
                " decides: it cannot judge a model that was trained on it. Set one of the two."
            )

    @property
    def compares(self) -> bool:
        """Whether the search set decides which model is kept."""
        return self.keep != "last"

    def is_better(self, after: Mapping[str, float], before: Mapping[str, float]) -> bool:
        """Tell whether a retrained model is the one to keep; what is no number is the worst there is.

        Args:
            after: its loss and metrics on the search set, and if it has one its ``calibrated_loss``, which goes first.
            before: those of the model before.

        Example:
            >>> before, after = {"loss": 0.44, "accuracy": 0.80}, {"loss": 0.56, "accuracy": 0.82}
            >>> Recipe(1, keep="better").is_better(after, before)
            False
            >>> Recipe(1, keep="better_metric").is_better(after, before)
            True
            >>> doubtful, right = before | {"calibrated_loss": 0.43}, after | {"calibrated_loss": 0.41}
            >>> Recipe(1, keep="better").is_better(right, doubtful)
            True
        """
        if self.keep == "better_metric":
            now, then = (_or(scores[self.headline], -math.inf) for scores in (after, before))
            if now != then:
                return now > then
        name = "calibrated_loss" if "calibrated_loss" in after else "loss"
        return _or(after[name], math.inf) < _or(before[name], math.inf)

    def callbacks(self) -> list[L.Callback]:
        """Return what takes part in the training."""
        return [] if self.ema is None else [Averaged(decay=self.ema)]


def _or(value: float, worst: float) -> float:
    return worst if math.isnan(value) else value


class Averaged(EMAWeightAveraging):
    """Lightning's moving average of the weights, also kept by a fit that is resumed after its last epoch."""

    @override
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._copy_average_to_current(pl_module)


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
        start: where the weights are rewound to first, and repairs with them; None keeps them.
        checkpoint: of an epoch of this very training, to go on from.
    """
    if start is not None:
        start.rewind_(module, module.model)
    # Lightning leaves a model in eval mode as it is, without dropout.
    trainer.fit(module.train(), data, ckpt_path=checkpoint, weights_only=True)


def search_metrics(module: FineTuner, data: TaskData, trainer: L.Trainer) -> dict[str, float]:
    """Return the loss and the metrics of a module on the search set; random states stay.

    Args:
        module: dense or cut.
        data: gives the search set.
        trainer: evaluates.
    """
    with isolate_rng():
        (values,) = trainer.validate(module, data.val_dataloader(), verbose=False)
    for part in module.modules():
        if isinstance(part, Metric):
            part.reset()  # Lightning has left tensors of inference mode, which a fit cannot update
    return {name.removeprefix("search_"): value for name, value in values.items()}


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
