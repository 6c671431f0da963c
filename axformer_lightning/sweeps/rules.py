"""Which rule serves users best: the search decides by each, the dev set reports.

Shape suffixes: ``N`` samples, ``C`` classes.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error
from transformers import PreTrainedModel

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.criteria import Rule, fit_temperature
from axformer_lightning.deploy import count_encoder_parameters
from axformer_lightning.finding import Pruning, SearchSettings, search_plan
from axformer_lightning.scoring import score_logits, to_device
from axformer_lightning.surgery import apply_plan_
from axformer_lightning.tasks import Task

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Setting:
    """One way to decide.

    Args:
        rule: arguments of :class:`~axformer_lightning.criteria.Rule`, but for the metric.
        by_metric: whether the rule has the task's metric.
        pruning: how pruning goes.
        hard: whether hard attention is searched for.
        tempers: whether the losses are those of logits that were divided by the dense model's temperature.
        classes_only: whether it takes classes, not numbers.
    """

    rule: Mapping[str, Any] = field(default_factory=dict)
    by_metric: bool = False
    pruning: Pruning = Pruning()  # noqa: RUF009
    hard: bool = True
    tempers: bool = False
    classes_only: bool = False


NO_VOTE = {"majority": 0.0}
RULES: dict[str, Setting] = {
    "published": Setting(),
    "loss": Setting(NO_VOTE),
    "loss, no hard attention": Setting(NO_VOTE, hard=False),
    "loss, inspection factor 1.5": Setting(NO_VOTE, pruning=Pruning(inspection_factor=1.5)),
    "loss, best first": Setting(NO_VOTE, pruning=Pruning(strategy="best_first")),
    "loss, several sweeps": Setting(NO_VOTE, pruning=Pruning(sweeps=None)),
    "loss of tempered logits": Setting(NO_VOTE, tempers=True, classes_only=True),
    "metric": Setting(NO_VOTE, by_metric=True),
    "loss and metric": Setting({"majority": 0.0, "with_loss": True}, by_metric=True),
    "loss, 99 % of predictions": Setting({"majority": 0.99, "vote": "prediction"}, classes_only=True),
}


@dataclass(frozen=True)
class RuleResult:
    """What one rule came to.

    Args:
        name: of the rule, or ``dense``.
        accepted: candidates accepted.
        candidates: candidates tried.
        search_loss: mean loss on the search set, as it was decided by; None for the dense model.
        metrics: on the dev set, by their official names.
        loss: mean loss on the dev set.
        calibration_error: on the dev set, with 15 bins (arXiv 1706.04599); None where numbers are predicted.
        encoder_parameters: of the transformer layers.
    """

    name: str
    accepted: int
    candidates: int
    search_loss: float | None
    metrics: dict[str, float]
    loss: float
    calibration_error: float | None
    encoder_parameters: int


class Tempered(nn.Module):
    """A model whose logits are divided by a temperature."""

    def __init__(self, model: PreTrainedModel, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(self, **batch: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.model(**batch).logits
        return logits / self.temperature


def compare_rules(
    model: PreTrainedModel,
    task: Task,
    headline: str,
    search: Sequence[Mapping[str, Tensor]],
    dev: Sequence[Mapping[str, Tensor]],
    rules: Mapping[str, Setting] = RULES,
) -> Iterator[RuleResult]:
    """Yield what the dense model and a model cut by each of ``rules`` come to, without training.

    Args:
        model: a fine-tuned model, which stays as it is.
        task: what it does.
        headline: the metric that a rule decides by.
        search: batches that decide.
        dev: batches that report.
        rules: ways to decide, by name; those that take classes are left out where numbers are predicted.
    """
    yield _report("dense", model, task, dev)
    for name, setting in rules.items():
        if setting.classes_only and task.kind == "regression":
            continue
        small = copy.deepcopy(model)
        scored = Tempered(small, _temperature(small, search)) if setting.tempers else small
        rule = Rule(**setting.rule, metric=task.metric(headline) if setting.by_metric else None)
        settings = SearchSettings(HardAttention() if setting.hard else None, setting.pruning, rule)
        plan, counts = search_plan(scored, small, search, settings)
        accepted = [decision.loss for decision in plan.decisions if decision.accepted]
        apply_plan_(small, plan)
        loss = accepted[-1] if accepted else plan.decisions[0].best_before
        yield _report(name, small, task, dev, counts.accepted, counts.candidates, loss)


def _report(
    name: str,
    model: PreTrainedModel,
    task: Task,
    dev: Sequence[Mapping[str, Tensor]],
    accepted: int = 0,
    candidates: int = 0,
    search_loss: float | None = None,
) -> RuleResult:
    logits, labels = _logits(model, dev)
    scored = score_logits(logits, {"labels": labels}, model.config.problem_type)
    metrics = task.collection()
    metrics.update(scored.preds, scored.target)
    calibration = None
    if task.kind == "classification":
        classes = logits.shape[-1]
        calibration = float(multiclass_calibration_error(logits.softmax(-1), labels, classes, CALIBRATION_BINS))
    return RuleResult(
        name=name,
        accepted=accepted,
        candidates=candidates,
        search_loss=search_loss,
        metrics={key: float(value) for key, value in metrics.compute().items()},
        loss=float(scored.loss_N.mean()),
        calibration_error=calibration,
        encoder_parameters=count_encoder_parameters(model),
    )


def _temperature(model: PreTrainedModel, batches: Sequence[Mapping[str, Tensor]]) -> float:
    return fit_temperature(*_logits(model, batches))


@torch.no_grad()
def _logits(model: PreTrainedModel, batches: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return logits and labels of all samples."""
    model.eval()
    logits, labels = [], []
    for batch in batches:
        inputs = to_device(dict(batch), model.device)
        labels.append(inputs.pop("labels"))
        logits.append(model(**inputs).logits)
    return torch.cat(logits), torch.cat(labels)
