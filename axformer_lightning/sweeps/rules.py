"""Which rule serves users best: the search decides by each, the dev set reports."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.criteria import fit_temperature, make_rule
from axformer_lightning.rounds import Cut, search_and_cut_
from axformer_lightning.search import Pruning, SearchSettings
from axformer_lightning.sweeps.reports import Report, logits_of, report_of
from axformer_lightning.tasks import Task

PLAIN = Pruning()


@dataclass(frozen=True)
class Setting:
    """One way to decide.

    Args:
        rule: arguments of :func:`~axformer_lightning.criteria.make_rule`, but for the metric.
        pruning: how pruning goes.
        hard: whether hard attention is searched for.
        tempers: whether the losses are those of logits that were divided by the dense model's temperature.
        classes_only: whether it takes classes, not numbers.
    """

    rule: Mapping[str, Any] = field(default_factory=dict)
    pruning: Pruning = PLAIN
    hard: bool = True
    tempers: bool = False
    classes_only: bool = False


NO_VOTE = {"majority": 0.0}
NO_FALL = {"majority": 0.0, "criterion": "loss_and_metric"}
INSPECTING = Pruning(inspection_factor=1.5)
REPAIRING = Pruning(repair=True)
RULES: dict[str, Setting] = {
    "published": Setting(),
    "loss": Setting(NO_VOTE),
    "loss_soft": Setting(NO_VOTE, hard=False),
    "loss_inspecting": Setting(NO_VOTE, pruning=INSPECTING),
    "loss_best_first": Setting(NO_VOTE, pruning=Pruning(strategy="best_first")),
    "loss_sweeps": Setting(NO_VOTE, pruning=Pruning(sweeps=None)),
    "loss_tempered": Setting(NO_VOTE, tempers=True, classes_only=True),
    "metric": Setting({"majority": 0.0, "criterion": "metric"}),
    "loss_and_metric": Setting(NO_FALL),
    "loss_and_metric_inspecting": Setting(NO_FALL, pruning=INSPECTING),
    "loss_and_metric_inspecting_soft": Setting(NO_FALL, pruning=INSPECTING, hard=False),
    "loss_repair": Setting(NO_VOTE, pruning=REPAIRING),
    "loss_repair_soft": Setting(NO_VOTE, pruning=REPAIRING, hard=False),
    "loss_and_metric_repair": Setting(NO_FALL, pruning=REPAIRING),
    "loss_and_metric_repair_soft": Setting(NO_FALL, pruning=REPAIRING, hard=False),
    "loss_predictions": Setting({"majority": 0.99, "vote": "prediction"}, classes_only=True),
}


@dataclass(frozen=True)
class RuleResult:
    """What one rule came to.

    Args:
        name: of the rule, or ``dense``.
        accepted: candidates accepted.
        candidates: candidates tried.
        search_loss: mean loss on the search set, as it was decided by; None for the dense model.
        report: on the dev set, of the model as it was cut.
        retrained: on the dev set, of the model that was trained once more, the dense one as well; None without.
        searched: on the samples that decided, of the model as it was cut; what it gains there and not on the dev set
            comes of choosing.
    """

    name: str
    accepted: int
    candidates: int
    search_loss: float | None
    report: Report
    retrained: Report | None = None
    searched: Report | None = None

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> "RuleResult":
        """Return what :func:`dataclasses.asdict` has made plain."""
        reports = {key: Report(**entries[key]) for key in ("report", "retrained", "searched") if entries.get(key)}
        return cls(**{**entries, **reports})


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
    retrain: Callable[[PreTrainedModel], None] | None = None,
    known: Mapping[str, RuleResult] | None = None,
) -> Iterator[RuleResult]:
    """Yield what the dense model and a model cut by each of ``rules`` come to, before and after training once more.

    Args:
        model: a fine-tuned model, which stays as it is.
        task: what it does.
        headline: the metric that a rule decides by.
        search: batches that decide.
        dev: batches that report.
        rules: ways to decide, by name; those that take classes are left out where numbers are predicted.
        retrain: trains a model in place, the dense one as well, lest the training count as the rule's gain; None
            reports without.
        known: results by name, which are yielded as they are.
    """
    known = known or {}
    dense = known.get("dense") or RuleResult("dense", 0, 0, None, report_of(model, task, dev))
    if dense.searched is None:
        dense = replace(dense, searched=report_of(model, task, search))
    if retrain and dense.retrained is None:
        again = copy.deepcopy(model)
        retrain(again)
        dense = replace(dense, retrained=report_of(again, task, dev))
    yield dense
    for name, setting in rules.items():
        if setting.classes_only and task.kind == "regression":
            continue
        if name in known:
            yield known[name]
            continue
        small = copy.deepcopy(model)
        cut = _search_and_cut_(small, task, headline, search, setting)
        accepted = [decision.loss for decision in cut.plan.decisions if decision.accepted]
        loss = accepted[-1] if accepted else cut.plan.decisions[0].best_before
        reports = {"report": report_of(small, task, dev), "searched": report_of(small, task, search)}
        result = RuleResult(name, cut.counts.accepted, cut.counts.candidates, loss, **reports)
        if retrain and accepted:
            retrain(small)
            result = replace(result, retrained=report_of(small, task, dev))
        else:  # the same model trained the same way
            result = replace(result, retrained=dense.retrained)
        yield result


def _search_and_cut_(
    model: PreTrainedModel, task: Task, headline: str, search: Sequence[Mapping[str, Tensor]], setting: Setting
) -> Cut:
    scored = Tempered(model, _temperature(model, search)) if setting.tempers else model
    rule = make_rule(**setting.rule, metric=task.metric(headline))
    settings = SearchSettings(HardAttention() if setting.hard else None, setting.pruning, rule)
    return search_and_cut_(scored, model, search, settings)


def _temperature(model: PreTrainedModel, batches: Sequence[Mapping[str, Tensor]]) -> float:
    return fit_temperature(*logits_of(model, batches))
