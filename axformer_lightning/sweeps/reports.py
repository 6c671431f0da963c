"""What a model is worth on some samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error
from transformers import PreTrainedModel

from axformer_lightning.basics import eval_mode
from axformer_lightning.costs import count_encoder_parameters
from axformer_lightning.scoring import score_logits, to_device
from axformer_lightning.tasks import Task

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Report:
    """What a model is worth on some samples, and its size.

    Args:
        metrics: by their official names.
        loss: mean loss.
        calibration_error: with 15 bins (arXiv 1706.04599); None where numbers are predicted.
        encoder_parameters: of the transformer layers.
    """

    metrics: dict[str, float]
    loss: float
    calibration_error: float | None
    encoder_parameters: int


def report_of(model: PreTrainedModel, task: Task, batches: Sequence[Mapping[str, Tensor]]) -> Report:
    """Return what a model is worth on batches with labels.

    Args:
        model: dense or cut.
        task: what it does.
        batches: with `labels`.
    """
    logits, labels = logits_of(model, batches)
    metrics, loss = worth(logits, labels, task, model.config.problem_type)
    calibration = None
    if task.kind == "classification":
        classes = logits.shape[-1]
        calibration = float(multiclass_calibration_error(logits.softmax(-1), labels, classes, CALIBRATION_BINS))
    return Report(
        metrics=metrics,
        loss=loss,
        calibration_error=calibration,
        encoder_parameters=count_encoder_parameters(model),
    )


def worth(logits: Tensor, labels: Tensor, task: Task, problem_type: str | None) -> tuple[dict[str, float], float]:
    """Return metrics by their official names, and the mean loss, of what a model said of some samples.

    Args:
        logits: of all samples.
        labels: of all samples.
        task: what the model does.
        problem_type: ``config.problem_type`` of the model.
    """
    scored = score_logits(logits, {"labels": labels}, problem_type)
    metrics = task.collection()
    metrics.update(scored.preds, scored.target)
    return {key: float(value) for key, value in metrics.compute().items()}, float(scored.loss_N.mean())


@torch.no_grad()
def logits_of(model: PreTrainedModel, batches: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return logits and labels of all samples."""
    logits, labels = [], []
    with eval_mode(model):
        for batch in batches:
            inputs = to_device(dict(batch), model.device)
            labels.append(inputs.pop("labels"))
            logits.append(model(**inputs).logits)
    return torch.cat(logits), torch.cat(labels)


def mean_loss(model: PreTrainedModel, batches: Sequence[Mapping[str, Tensor]]) -> float:
    """Return the mean loss over all samples."""
    logits, labels = logits_of(model, batches)
    return float(score_logits(logits, {"labels": labels}, model.config.problem_type).loss_N.mean())
