"""What rules gain over the dense model, over tasks and seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from axformer_lightning.evidence import mean_of

ALL_TASKS = "all tasks"
Differences = Mapping[str, float | None]  # by what is compared; None where it was not measured


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation, which is None of a single value and where a value is no number.

    Example:
        >>> Spread.of([1.0, 2.0, 3.0]), str(Spread.of([1.0]))
        (Spread(mean=2.0, deviation=1.0), '+1.00')
    """

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of some values."""
        found = mean_of(values)
        return cls(found.mean, found.deviation)

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "no number"
        return f"{self.mean:+z.2f}" + ("" if self.deviation is None else f" ± {self.deviation:.2f}")


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
    spreads: Mapping[str, Spread | None]


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
        for rule in everywhere:
            means = [_means(gain.spreads) for gain in found if gain.rule == rule]
            found.append(_gain(ALL_TASKS, rule, means))
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
    spreads = {}
    for name in listed[0]:
        values = [value for differences in listed if (value := differences[name]) is not None]
        spreads[name] = Spread.of(values) if values else None
    return Gain(task, rule, len(listed), spreads)


def _means(spreads: Mapping[str, Spread | None]) -> Differences:
    return {name: spread.mean if spread else None for name, spread in spreads.items()}
