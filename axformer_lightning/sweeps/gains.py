"""What rules gain over the dense model, over tasks and seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from axformer_lightning.evidence import Mean, mean_of

ALL_TASKS = "all tasks"
Differences = Mapping[str, float | None]  # by what is compared; None where it was not measured


@dataclass(frozen=True)
class Gain:
    """By how much the models that a rule has cut differ from the dense ones they were cut from.

    Args:
        task: name, or :data:`ALL_TASKS`.
        rule: name.
        runs: dense models that were cut; over all tasks, the tasks.
        spreads: `metric`, the headline metric in percentage points; `searched`, the same on the samples that decided;
            `retrained`, the same on the dev set after both were trained once more; `loss` on the dev set in percent;
            `calibration_error` in percentage points; `parameters` of the encoder in percent. None is what was not
            measured.
    """

    task: str
    rule: str
    runs: int
    spreads: Mapping[str, Mean | None]


def gains(runs: Iterable[Mapping[str, Any]]) -> list[Gain]:
    """Return the gain of each rule on each task, then over all tasks, where each task counts once.

    Over all tasks stand the rules that were tried on each; the spread there is the one between tasks.

    Args:
        runs: what ``benchmark rules`` has written, one for each dense model: `task`, `metric` and `rules`, the
            entries of :class:`~axformer_lightning.sweeps.RuleResult` with the dense model first.
    """
    by_task: dict[str, dict[str, list[Differences]]] = {}
    for run in runs:
        dense, *results = run["rules"]
        rules = by_task.setdefault(run["task"], {})
        for result in results:
            rules.setdefault(result["name"], []).append(_differences(result, dense, run["metric"]))
    found = [_gain(task, rule, listed) for task, rules in by_task.items() for rule, listed in rules.items()]
    if len(by_task) > 1:
        everywhere = [rule for rule in next(iter(by_task.values())) if all(rule in rules for rules in by_task.values())]
        found += [_gain(ALL_TASKS, rule, each_once(rules[rule] for rules in by_task.values())) for rule in everywhere]
    return found


def _differences(result: Mapping[str, Any], dense: Mapping[str, Any], metric: str) -> Differences:
    cut, whole = result["report"], dense["report"]
    has_classes = whole["calibration_error"] is not None
    return {
        "metric": _points(cut["metrics"][metric], whole["metrics"][metric]),
        **{name: _metric_points(result.get(name), dense.get(name), metric) for name in ("searched", "retrained")},
        "loss": _percent(cut["loss"], whole["loss"]),
        "calibration_error": _points(cut["calibration_error"], whole["calibration_error"]) if has_classes else None,
        "parameters": _percent(cut["encoder_parameters"], whole["encoder_parameters"]),
    }


def _points(value: float, base: float) -> float:
    return 100 * (value - base)


def _metric_points(cut: Mapping[str, Any] | None, whole: Mapping[str, Any] | None, metric: str) -> float | None:
    return _points(cut["metrics"][metric], whole["metrics"][metric]) if cut and whole else None


def _percent(value: float, base: float) -> float:
    return 100 * (value / base - 1)


def _gain(task: str, rule: str, listed: Sequence[Differences]) -> Gain:
    return Gain(task, rule, len(listed), means_of(listed))


def means_of(listed: Sequence[Differences]) -> dict[str, Mean | None]:
    """Return the mean of each difference over those that were measured, None where none was."""
    values = {name: [value for one in listed if (value := one[name]) is not None] for name in listed[0]}
    return {name: mean_of(own) if own else None for name, own in values.items()}


def each_once(tasks: Iterable[Sequence[Differences]]) -> list[Differences]:
    """Return the mean differences of each task: over tasks one with more runs counts no more than another."""
    return [{name: None if mean is None else mean.mean for name, mean in means_of(listed).items()} for listed in tasks]
