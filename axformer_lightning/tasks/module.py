"""LightningModules that fine-tune: a base for all tasks, and classification and regression of texts."""

import math
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from axformer_lightning.distillation import Distillation, Logits, mixed_loss
from axformer_lightning.scoring import score_logits
from axformer_lightning.tasks.calibrated import CalibratedLoss
from axformer_lightning.tasks.task import Task
from axformer_lightning.tasks.task_data import TEACHER_LOGITS
from axformer_lightning.training import apply_checkpoint_plans_, follow_workers_


class FineTuner(L.LightningModule):
    """Fine-tunes a Hugging Face model: AdamW, linear warm-up and decay. Subclasses evaluate.

    Args:
        model: a Hugging Face model with a head, which returns a loss if it is called with labels.
        task: gives the metrics.
        learning_rate: highest learning rate.
        weight_decay: for all weights except norms and biases.
        warmup: share of the steps in which the learning rate rises.

    Attributes:
        distillation: how the `teacher_logits` of a training batch take part in its loss; None where there are none.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        task: Task,
        learning_rate: float = 2e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
    ) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.distillation: Distillation | None = None
        follow_workers_(self)

    def forward(self, **batch: Tensor) -> Any:
        """Return the output of the model."""
        return self.model(**batch)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch, and a teacher's part in it."""
        taught = batch.pop(TEACHER_LOGITS, None)
        output = self(**batch)
        loss: Tensor = output.loss
        if self.distillation is not None and taught is not None:
            logits: Logits = taught if taught.dim() == 2 else (taught[..., 0], taught[..., 1])  # starts and ends
            loss = mixed_loss(output, logits, self.distillation, problem_type=self.model.config.problem_type)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """Return AdamW with a linear schedule over the whole fit."""
        decayed = [p for p in self.parameters() if p.requires_grad and p.dim() > 1]
        others = [p for p in self.parameters() if p.requires_grad and p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        # In float16 gradients are scaled: a fused step may take the scale out itself, after they were clipped.
        optimizer = AdamW(groups, lr=self.learning_rate, fused=self.trainer.precision != "16-mixed")
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = get_linear_schedule_with_warmup(optimizer, int(self.warmup * steps), steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients, in mixed bfloat16 as in full precision: nothing is scaled there, as Lightning fears."""
        if self.trainer.precision != "bf16-mixed":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or GradClipAlgorithmType.NORM)
            Precision.clip_gradients(self.trainer.precision_plugin, optimizer, gradient_clip_val, algorithm)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Cut the model before the checkpoint's weights are loaded."""
        apply_checkpoint_plans_(self, checkpoint)


class TextClassifier(FineTuner):
    """Fine-tunes and evaluates a sequence classifier, or a regression on texts; same arguments as `FineTuner`."""

    def __init__(self, model: PreTrainedModel, task: Task, *args: Any, **options: Any) -> None:
        super().__init__(model, task, *args, **options)
        self.search_metrics = task.collection()
        self.dev_metrics = task.collection()
        self.calibrated_loss = CalibratedLoss()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log loss and metrics on the search set, and the loss at the best temperature or scale."""
        scored = self._evaluate(batch, self.search_metrics, "search_")
        self.calibrated_loss.update(scored["logits"], scored["labels"])
        self.log("search_calibrated_loss", self.calibrated_loss)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Log loss and metrics on the dev set, under their official names; return labels and logits."""
        return self._evaluate(batch, self.dev_metrics, "")

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the class number of each sample, or its score; NaN where the logits are no numbers."""
        logits: Tensor = self(**batch).logits
        if self.task.kind == "regression":
            return logits.flatten()
        return torch.where(logits.isnan().any(-1), math.nan, logits.argmax(-1))  # which takes NaN for the largest

    def _evaluate(self, batch: dict[str, Tensor], metrics: Any, prefix: str) -> dict[str, Tensor]:
        scored = score_logits(self(**batch).logits, batch, self.model.config.problem_type)
        metrics.update(scored.preds, scored.target)
        loss, size = scored.loss_N.mean(), len(scored.loss_N)
        self.log(f"{prefix}loss", loss, batch_size=size, prog_bar=bool(prefix), sync_dist=True)
        self.log_dict({prefix + name: metric for name, metric in metrics.items()}, prog_bar=bool(prefix))
        return {"labels": scored.target, "logits": scored.logits}
