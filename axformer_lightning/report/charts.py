"""Pictures of results: the front, the intervals of gains, calibration."""

import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from axformer_lightning.basics.colors import BLUE, RED
from axformer_lightning.evidence import Calibration, Mean
from axformer_lightning.report.cells import Cell
from axformer_lightning.report.comparisons import PLAIN, Row
from axformer_lightning.report.numbers import Numbers, is_drawn, known_mean
from axformer_lightning.report.svg import INK, MARKERS, MUTED, SERIES, Said

Picture = tuple[Figure, Said]
WIDTH = 8.4  # inches of all pictures
LINE = 92  # characters of a legend that fit into them, and twice as many as of the name of a row
DENSE_LINES = ("--", ":", "-.")


def front(cells: Sequence[Cell], numbers: Sequence[Numbers]) -> Picture:
    """Draw the metric of a task's settings against how many times smaller, and how many times faster they are.

    Lines join what no other setting beats in both; horizontal ones are the two dense baselines, each over all of its
    seeds, whatever seeds a setting has.

    Args:
        cells: of the task.
        numbers: of each cell.
    """
    shown = [(cell, one) for cell, one in zip(cells, numbers, strict=True) if not cell.is_dense]
    dense = {"dense, plain": _plain(cells)}
    dense |= {cell.setting: one.points for cell, one in zip(cells, numbers, strict=True) if cell.is_dense}
    panels = [("smaller", "encoder, times smaller")]
    if any(is_drawn(one.faster) for _, one in shown):
        panels.append(("faster", "batch of 32, times faster"))
    named = [_label(cell.setting) for cell, _ in shown]
    columns = 1 + (len(shown) > 3 and max(map(len, named)) < LINE // 2)
    lines = sum(name.count("\n") + 1 for name in named) + sum(_label(name).count("\n") for name in dense)
    figure = Figure(figsize=(WIDTH, 3.5 + 0.22 * lines), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    said: dict[str, list[str]] = {}
    for panel, ((name, label), ax) in enumerate(zip(panels, axes, strict=True)):
        points = []
        for i, (cell, one) in enumerate(shown):
            x = getattr(one, name)
            if not is_drawn(x) or not is_drawn(one.points):
                continue
            gid = f"front-{panel}-{i}"
            style = {**_mark_of(i), "s": 52, "zorder": 3}
            ax.scatter([x.mean], [one.points.mean], label=None if panel else named[i], gid=gid, **style)
            spread = one.points.deviation
            if spread:
                ax.errorbar([x.mean], [one.points.mean], yerr=spread, color=style["color"], capsize=3, linewidth=1)
            said[gid] = [f"{cell.setting}: {one.points}, dense of these seeds {one.dense}, {x.mean:.2f} times {name}"]
            points.append((x.mean, one.points.mean))
        ahead = [point for point in sorted(points) if not any(_beats(other, point) for other in points)]
        if len(ahead) > 1:
            ax.plot(*zip(*ahead, strict=True), color=MUTED, linewidth=1, zorder=1)
        _dense_lines(ax, dense, with_labels=not panel)
        ax.axvline(1, color=MUTED, linewidth=0.6)
        ax.set_xlabel(label)
    spreads = [*(one.points for _, one in shown), *dense.values()]
    axes[0].set_ylim(_room(s.mean + sign * (s.deviation or 0) for s in spreads if is_drawn(s) for sign in (-1, 1)))
    axes[0].set_ylabel(f"{cells[0].headline} on dev" if cells else "")
    figure.legend(loc="outside lower left", ncols=columns)
    return figure, said


def _plain(cells: Sequence[Cell]) -> Mean | None:
    """Return what all dense models are worth that some settings were cut from, each once; not those that diverged."""
    found = {
        (outcome.record.seed, value)
        for cell in cells
        for outcome, value in zip(cell.outcomes, cell.dense_values, strict=True)
        if not math.isnan(value)
    }
    return known_mean(sorted(100 * value for _, value in found))


def _mark_of(number: int) -> dict[str, Any]:
    """Return the color and the form of a setting, which no other one of the first dozens has.

    Example:
        >>> len({tuple(_mark_of(i).values()) for i in range(40)})
        40
    """
    rounds = number // len(SERIES)
    return {"color": SERIES[number % len(SERIES)], "marker": MARKERS[(number + rounds) % len(MARKERS)]}


def intervals(rows: Sequence[Row]) -> Picture:
    """Draw the gain of each comparison with its intervals: over seeds as a thick line, over samples as a thin one."""
    several = len({row.title for row in rows}) > 1
    names = [
        f"{_label(f'{row.title}: {row.setting}' if several else row.setting, LINE // 2)}\nagainst {row.baseline}"
        for row in rows
    ]
    ends = [0.0, *itertools.accumulate(0.06 + 0.15 * (name.count("\n") + 1) for name in names)]  # inches from above
    middles = [(above + below) / 2 for above, below in itertools.pairwise(ends)]
    figure = Figure(figsize=(WIDTH, 1.2 + ends[-1]), layout="constrained")
    ax = figure.subplots()
    ax.axvline(0, color=INK, linewidth=1)
    said = {}
    for i, (row, y) in enumerate(zip(rows, middles, strict=True)):
        found = row.comparison
        color, marker = (BLUE, "o") if row.baseline == PLAIN else (RED, "s")
        if found.over_seeds.low is not None and found.over_seeds.high is not None:
            ax.plot([found.over_seeds.low, found.over_seeds.high], [y - 0.04] * 2, color=color, linewidth=3)
        if found.low is not None and found.high is not None:
            ax.plot([found.low, found.high], [y + 0.04] * 2, color=color, linewidth=1.2)
        ax.scatter([found.over_seeds.mean], [y], color=color, marker=marker, s=38, zorder=3, gid=f"gain-{i}")
        said[f"gain-{i}"] = [
            f"{row.title}, {row.setting}, against dense {row.baseline}: {found.over_seeds.mean:+z.2f} points,"
            f" {found.verdict}"
        ]
    shown = [x for row in rows for one in [row.comparison] for x in (one.over_seeds.low, one.over_seeds.high, one.low,
             one.high, one.over_seeds.mean) if x is not None]  # fmt: skip
    ax.set_xlim(_room([0.0, *shown]))
    ax.set_yticks(middles, names)
    ax.tick_params(axis="y", length=0, labelsize=8)
    ax.set_ylim(ends[-1] + 0.1, -0.1)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("points gained (thick: over seeds, thin: over dev samples; 95 %)")
    return figure, said


def reliability(found: Sequence[tuple[str, Calibration]]) -> Picture:
    """Draw how often models are right against how sure they are."""
    figure = Figure(figsize=(4.4, 4.0), layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    said = {}
    for i, (name, one) in enumerate(found):
        sure, right, sizes = zip(*one.bins, strict=True)
        style: dict[str, Any] = {"color": (BLUE, RED)[i % 2], "marker": MARKERS[i % 2]}
        ax.plot(sure, right, linewidth=1, color=style["color"])
        ax.scatter(sure, right, s=30, label=f"{name} (error {100 * one.error:.1f})", gid=f"bin-{i}", zorder=3, **style)
        said[f"bin-{i}"] = [
            f"{name}: {n} samples, {100 * s:.0f} % sure, {100 * r:.0f} % right"
            for s, r, n in zip(sure, right, sizes, strict=True)
        ]
    least = min(min(sure, right) for _, one in found for sure, right, _ in one.bins)
    ax.set(xlim=(max(0, least - 0.05), 1.01), ylim=(max(0, least - 0.05), 1.02))
    ax.set(xlabel="how sure (confidence)", ylabel="how often right")
    ax.legend(loc="upper left", fontsize=8.5)
    return figure, said


def _dense_lines(ax: Any, values: Mapping[str, Mean | None], *, with_labels: bool) -> None:
    for (name, value), line in zip(values.items(), itertools.cycle(DENSE_LINES)):
        if is_drawn(value):
            ax.axhline(value.mean, color=INK, linestyle=line, linewidth=1.2, zorder=2)
            label = _label(name) if with_labels else None
            ax.plot([1], [value.mean], "*", color=INK, linestyle=line, markersize=10, label=label, zorder=3)


def _label(text: str, width: int = LINE) -> str:
    r"""Return a text in lines that matplotlib shows as it is: between two dollar signs it reads formulas.

    Example:
        >>> print(_label("retrain_epochs=${finetune_epochs} seed=${n}"))
        retrain_epochs=\${finetune_epochs} seed=\${n}
    """
    return textwrap.fill(text, width).replace("$", r"\$")


def _room(values: Iterable[float]) -> tuple[float, float]:
    """Return limits around some values, at least a point apart: what differs by less would look as if it mattered.

    Example:
        >>> _room([82.4, 82.4]), _room([80.0, 90.0])
        ((81.9, 82.9), (79.0, 91.0))
    """
    low, high = min(values := [*values]), max(values)
    room = max(0.1 * (high - low), (1 - (high - low)) / 2)
    return low - room, high + room


def _beats(other: tuple[float, float], point: tuple[float, float]) -> bool:
    """Tell whether a point is at least as good in both, and better in one."""
    return other != point and other[0] >= point[0] and other[1] >= point[1]
