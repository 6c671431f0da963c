"""What ways of making a model smaller gain or lose at equal size, over tasks and seeds; as numbers and as a picture."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from axformer_lightning.basics.colors import BLACK, BLUE, GRAY, GREEN, ORANGE, PINK, RED, SKY, YELLOW
from axformer_lightning.evidence import Mean
from axformer_lightning.sweeps.gains import ALL_TASKS, Differences, means_of, with_all_tasks

# A marker each for those who see no colors.
STYLES = ((BLUE, "o"), (SKY, "s"), (GREEN, "^"), (ORANGE, "D"), (RED, "v"), (PINK, "P"), (BLACK, "X"), (YELLOW, "*"))


@dataclass(frozen=True)
class SizeGain:
    """By how much models that a method made smaller differ from the dense ones they were made from.

    Args:
        task: name, or :data:`~axformer_lightning.sweeps.gains.ALL_TASKS`.
        method: name.
        ratio: by which the encoder was to be smaller.
        reached: mean of that by which it is smaller.
        runs: dense models; over all tasks, the tasks.
        spreads: `metric`, the headline metric in percentage points; `retrained`, the same after both were trained once
            more; `loss` on the dev set in percent; `searched`, the loss on the samples that decided in percent.
            None is what was not measured.
        cpu_seconds: of the search up to this ratio, a mean.
    """

    task: str
    method: str
    ratio: float
    reached: float
    runs: int
    spreads: Mapping[str, Mean | None]
    cpu_seconds: float


def size_gains(runs: Iterable[Mapping[str, Any]]) -> list[SizeGain]:
    """Return the gain of each method at each ratio on each task, then over all tasks, where each task counts once.

    Over all tasks stands what was reached on each; the spread there is the one between tasks.

    Args:
        runs: what ``benchmark budget`` has written, one for each dense model: `task`, `metric` and `results`, the
            entries of :class:`~axformer_lightning.sweeps.BudgetResult` with the dense model first.

    Example:
        >>> def entry(method, ratio, accuracy):
        ...     report = {"metrics": {"accuracy": accuracy}, "loss": 0.5}
        ...     sizes = {"ratio": ratio, "reached": ratio, "cpu_seconds": 0.0}
        ...     return {"method": method, "report": report, "searched": report, **sizes}
        >>> run = {"task": "rte", "metric": "accuracy", "results": [entry("dense", 1, 0.75), entry("ours", 2, 0.5)]}
        >>> print(f"{size_gains([run])[0].spreads['metric']:+.2f}")
        -25.00
    """
    by_task: dict[str, dict[tuple[str, float], list[Differences]]] = {}
    for run in runs:
        dense, *results = run["results"]
        cells = by_task.setdefault(run["task"], {})
        for result in results:
            own = _differences(result, dense, run["metric"])
            cells.setdefault((result["method"], result["ratio"]), []).append(own)
    return [_gain(task, *cell, listed) for task, cell, listed in with_all_tasks(by_task)]


def _gain(task: str, method: str, ratio: float, listed: Sequence[Differences]) -> SizeGain:
    means = means_of(listed)
    reached, seconds = (mean.mean for name in ("reached", "cpu_seconds") if (mean := means.pop(name)) is not None)
    return SizeGain(task, method, ratio, reached, len(listed), means, seconds)


def _differences(result: Mapping[str, Any], dense: Mapping[str, Any], metric: str) -> Differences:
    def points(name: str) -> float | None:
        cut, whole = result.get(name), dense.get(name)
        return 100 * (cut["metrics"][metric] - whole["metrics"][metric]) if cut and whole else None

    def percent(name: str) -> float:
        loss: float = result[name]["loss"] / dense[name]["loss"]
        return 100 * (loss - 1)

    return {
        "metric": points("report"),
        "retrained": points("retrained"),
        "loss": percent("report"),
        "searched": percent("searched"),
        "cpu_seconds": result["cpu_seconds"],
        "reached": result["reached"],
    }


def draw_size_gains(gains: Sequence[SizeGain], path: str | os.PathLike[str]) -> None:
    """Draw the difference in the headline metric against the size, as a PNG with a panel for each task.

    Args:
        gains: what :func:`size_gains` has found.
        path: where to; replaced if it exists.

    Raises:
        ValueError: if there are no gains.
    """
    size_gains_figure(gains).savefig(path, format="png", dpi=150)


def size_gains_figure(gains: Sequence[SizeGain]) -> Figure:
    """Return what :func:`draw_size_gains` draws as a figure, to be changed or saved otherwise."""
    if not gains:
        raise ValueError("Expected results of at least one method, got none. Pass files of longer runs.")
    tasks, methods = (list(dict.fromkeys(values)) for values in zip(*[(g.task, g.method) for g in gains], strict=True))
    retrained = all(gain.spreads["retrained"] is not None for gain in gains)
    measured = "retrained" if retrained else "metric"
    figure = Figure(figsize=(4 + 4 * len(tasks), 5), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        axes.axhline(0, color=GRAY, linewidth=1, label="dense")
        for method, (color, marker) in zip(methods, STYLES * len(methods), strict=False):
            own = sorted((g for g in gains if (g.task, g.method) == (task, method)), key=lambda gain: gain.reached)
            spreads = [spread for gain in own if (spread := gain.spreads[measured]) is not None]
            axes.errorbar(
                [gain.reached for gain in own], [spread.mean for spread in spreads],
                [spread.deviation or 0.0 for spread in spreads],
                color=color, marker=marker, capsize=3, linewidth=1.5, label=method,
            )  # fmt: skip
        ticks = sorted({gain.ratio for gain in gains if gain.task == task})
        runs = max(gain.runs for gain in gains if gain.task == task)
        title = f"mean of {runs} tasks" if task == ALL_TASKS else f"{task}, {runs} run{'s' if runs > 1 else ''}"
        axes.set(title=title, xlabel="times smaller, encoder", xscale="log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_ylabel(f"metric less that of the dense model{', both retrained' if retrained else ''}, points")
        axes.minorticks_off()
        axes.set_xlim(min(ticks) / 1.1, max([1.1 * max(ticks), *(gain.reached for gain in gains if gain.task == task)]))
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 2 + 2 * len(tasks)), frameon=False
    )
    return figure
