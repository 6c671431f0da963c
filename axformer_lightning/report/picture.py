"""A picture of a plan: what is left of each layer."""

import os
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from axformer_lightning.anatomy import LayerPlan, neuron_groups
from axformer_lightning.basics.colors import BLUE, GRAY, PALE, RED, SKY
from axformer_lightning.plan import Plan

Style = dict[str, Any]

KEPT: Style = {"facecolor": BLUE, "edgecolor": "white"}
INT8: Style = {"facecolor": SKY, "edgecolor": "white"}
REMOVED: Style = {"facecolor": PALE, "edgecolor": "white"}
BLOCK_REMOVED: Style = {"facecolor": "white", "edgecolor": GRAY, "hatch": "////"}
HARD: Style = {"marker": "D", "color": RED, "linestyle": "none", "markersize": 6}
HEIGHT = 0.72  # of the bar of a layer, in rows
MOST_TICKS, GROUPS = 16, 12


def draw_plan(plan: Plan, path: str | os.PathLike[str], *, num_groups: int | None = None, title: str = "") -> None:
    """Draw what a plan leaves of a model, as a PNG: a row for each layer, the one nearest the input at the bottom.

    The left panel shows the heads, the right panel the intermediate neurons with the exact ranges that were
    removed. A block that was removed as a whole is hatched; one that lost all of its parts is not, as it still adds
    its bias.

    Args:
        plan: what is left of a model.
        path: the file to write; replaced if it exists.
        num_groups: how many groups the neurons of a layer form; faint lines show where they meet. By default 12, or as
            many as there are neurons.
        title: shown above the picture.

    Raises:
        ValueError: if there are no groups, or more groups than neurons.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> plan = Plan("bert", 2, 4, 64, (LayerPlan(heads_removed=(1,)), LayerPlan(feed_forward="removed")))
        >>> with TemporaryDirectory() as directory:
        ...     draw_plan(plan, Path(directory, "plan.png"))
        ...     Path(directory, "plan.png").read_bytes()[1:4]
        b'PNG'
    """
    plan_figure(plan, num_groups=num_groups, title=title).savefig(path, format="png", dpi=150)


def plan_figure(plan: Plan, *, num_groups: int | None = None, title: str = "") -> Figure:
    """Return the figure that :func:`draw_plan` draws, to change it or save it elsewhere."""
    if num_groups is None:
        num_groups = min(GROUPS, plan.intermediate_size)
    groups = neuron_groups(plan.intermediate_size, num_groups)
    figure = Figure(figsize=(10, 1.8 + 0.36 * plan.num_layers), layout="constrained")
    heads, neurons = figure.subplots(1, 2, sharey=True)
    _label(heads, neurons, plan)
    for row, layer in enumerate(plan.layers):
        _draw_heads(heads, row, layer, plan.num_heads)
        _draw_neurons(neurons, row, layer, groups)
    if title:
        figure.suptitle(title)
    figure.legend(handles=_legend(plan), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _label(heads: Any, neurons: Any, plan: Plan) -> None:
    ticks = range(0, plan.num_heads, 1 + (plan.num_heads - 1) // MOST_TICKS)
    heads.set(
        title="Attention",
        xlabel="head",
        ylabel="layer (from the input)",
        xlim=(0, 1.2 * plan.num_heads),
        ylim=(-0.6, plan.num_layers - 0.4),
        xticks=[head + 0.5 for head in ticks],
        xticklabels=ticks,
        yticks=range(plan.num_layers),
    )
    neurons.set(
        title="Feed-forward",
        xlabel="intermediate neuron",
        xlim=(0, plan.intermediate_size),
        xticks=[plan.intermediate_size * quarter // 4 for quarter in range(5)],
    )
    for axes in (heads, neurons):
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)


def _draw_heads(axes: Any, row: int, layer: LayerPlan, num_heads: int) -> None:
    if layer.attention == "removed":
        _bar(axes, row, 0, num_heads, BLOCK_REMOVED)
        return
    kept = INT8 if "attention" in layer.int8 else KEPT
    for head in range(num_heads):
        _bar(axes, row, head, head + 1, REMOVED if head in layer.heads_removed else kept)
    if layer.hard_attention is not None:
        axes.plot(1.04 * num_heads, row, **HARD)
        axes.text(1.08 * num_heads, row, f"k={layer.hard_attention.k}", va="center_baseline")


def _draw_neurons(axes: Any, row: int, layer: LayerPlan, groups: Sequence[tuple[int, int]]) -> None:
    intermediate_size = groups[-1][1]
    if layer.feed_forward == "removed":
        _bar(axes, row, 0, intermediate_size, BLOCK_REMOVED)
        return
    _bar(axes, row, 0, intermediate_size, INT8 if "feed_forward" in layer.int8 else KEPT)
    for start, stop in layer.neurons_removed:  # without edges: a cut to a budget leaves single neurons between them
        _bar(axes, row, start, stop, REMOVED | {"edgecolor": "none"})
    starts = [start for start, _ in groups[1:]]
    axes.vlines(starts, row - HEIGHT / 2, row + HEIGHT / 2, colors="white", linewidth=0.8, alpha=0.4)


def _bar(axes: Any, row: int, start: int, stop: int, style: Style) -> None:
    axes.add_patch(Rectangle((start, row - HEIGHT / 2), stop - start, HEIGHT, **style))


def _legend(plan: Plan) -> list[Any]:
    in_int8 = [Patch(label="kept, in int8", **INT8)] if any(layer.int8 for layer in plan.layers) else []
    return [
        Patch(label="kept", **KEPT),
        *in_int8,
        Patch(label="removed", **REMOVED),
        Patch(label="whole block removed", **BLOCK_REMOVED),
        Line2D([], [], label="hard attention: a query keeps its k largest weights", **HARD),
    ]
