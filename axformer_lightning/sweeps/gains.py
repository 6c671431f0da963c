"""What rules gain over the dense model, over tasks and seeds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from axformer_lightning.evidence import Mean, mean_of

K = TypeVar("K")
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
    return [Gain(task, rule, len(listed), means_of(listed)) for task, rule, listed in with_all_tasks(by_task)]


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


def means_of(listed: Sequence[Differences]) -> dict[str, Mean | None]:
    """Return the mean of each difference over those that were measured, None where none was."""
    values = {name: [value for one in listed if (value := one[name]) is not None] for name in listed[0]}
    return {name: mean_of(own) if own else None for name, own in values.items()}


def with_all_tasks(
    by_task: Mapping[str, Mapping[K, Sequence[Differences]]],
) -> Iterator[tuple[str, K, Sequence[Differences]]]:
    """Yield the differences of what was compared on each task, then over all tasks if there are several.

    Over all tasks stands what each has, with one mean of each: a task with more runs counts no more than another.
    """
    for task, compared in by_task.items():
        yield from ((task, what, listed) for what, listed in compared.items())
    first, *others = by_task.values() or [{}]
    for what in first if others else ():
        if all(what in compared for compared in others):
            means = [means_of(compared[what]) for compared in by_task.values()]
            yield ALL_TASKS, what, [{name: None if m is None else m.mean for name, m in one.items()} for one in means]
