"""What ways of making a model smaller gain or lose at equal size, over tasks and seeds; as numbers and as a picture."""

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from axformer_lightning.basics.colors import BLACK, BLUE, GRAY, GREEN, ORANGE, PINK, RED, SKY, YELLOW
from axformer_lightning.sweeps.gains import ALL_TASKS, Spread

# A marker each for those who see no colors.
STYLES = ((BLUE, "o"), (SKY, "s"), (GREEN, "^"), (ORANGE, "D"), (RED, "v"), (PINK, "P"), (BLACK, "X"), (YELLOW, "*"))
COMPARED = ("metric", "retrained", "loss", "searched")


@dataclass(frozen=True)
class SizeGain:
    """By how much models that a method made smaller differ from the dense ones they were made from.

    Args:
        task: name, or :data:`~axformer_lightning.sweeps.gains.ALL_TASKS`.
        method: name.
        ratio: by which the encoder was to be smaller.
        reached: mean of that by which it is smaller.
        runs: dense models, over tasks and seeds.
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
    spreads: Mapping[str, Spread | None]
    cpu_seconds: float


def size_gains(runs: Iterable[Mapping[str, Any]]) -> list[SizeGain]:
    """Return the gain of each method at each ratio on each task, then over the runs of all tasks if there are several.

    Over all tasks stands what was reached in every run, and every run counts once.

    Args:
        runs: what ``benchmark budget`` has written, one for each dense model: `task`, `metric` and `results`, the
            entries of :class:`~axformer_lightning.sweeps.BudgetResult` with the dense model first.

    Example:
        >>> def entry(method, ratio, accuracy):
        ...     report = {"metrics": {"accuracy": accuracy}, "loss": 0.5}
        ...     sizes = {"ratio": ratio, "reached": ratio, "cpu_seconds": 0.0}
        ...     return {"method": method, "report": report, "searched": report, **sizes}
        >>> run = {"task": "rte", "metric": "accuracy", "results": [entry("dense", 1, 0.75), entry("ours", 2, 0.5)]}
        >>> str(size_gains([run])[0].spreads["metric"])
        '-25.00'
    """
    tasks: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        tasks.setdefault(run["task"], []).append(run)
    found = [gain for task, listed in tasks.items() for gain in _gains(task, listed)]
    if len(tasks) > 1:
        everything = [run for listed in tasks.values() for run in listed]
        found += [gain for gain in _gains(ALL_TASKS, everything) if gain.runs == len(everything)]
    return found


def _gains(task: str, runs: Sequence[Mapping[str, Any]]) -> list[SizeGain]:
    cells: dict[tuple[str, float], list[dict[str, float | None]]] = {}
    for run in runs:
        dense, *results = run["results"]
        for result in results:
            own = _differences(result, dense, run["metric"])
            cells.setdefault((result["method"], result["ratio"]), []).append(own)
    gains = []
    for (method, ratio), listed in cells.items():
        values = {name: [value for one in listed if (value := one[name]) is not None] for name in listed[0]}
        spreads = {name: Spread.of(values[name]) if values[name] else None for name in COMPARED}
        reached, seconds = (statistics.fmean(values[name]) for name in ("reached", "cpu_seconds"))
        gains.append(SizeGain(task, method, ratio, reached, len(listed), spreads, seconds))
    return gains


def _differences(result: Mapping[str, Any], dense: Mapping[str, Any], metric: str) -> dict[str, float | None]:
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
        axes.set(title=f"{task}, {runs} run{'s' if runs > 1 else ''}", xlabel="times smaller, encoder", xscale="log")
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
