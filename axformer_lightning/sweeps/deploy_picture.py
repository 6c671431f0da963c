"""A picture of deployed models: the metric against time and against bytes, each engine and precision a point."""

import os
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from axformer_lightning.basics.colors import BLACK
from axformer_lightning.sweeps.budget_gains import STYLES
from axformer_lightning.sweeps.deploy import Deployed

MEGABYTE = 10**6


def draw_deployed(points: Sequence[Deployed], path: str | os.PathLike[str], *, metric: str, shape: str) -> None:
    """Draw a metric against milliseconds and megabytes, as a PNG: a marker for each engine, a filling for each model.

    Args:
        points: what was measured; the first model is drawn hollow, the others are filled, each in a lighter tone.
        path: the file to write; replaced if it exists.
        metric: one of the metrics, drawn in percent.
        shape: of the batch whose time is drawn, as in `8x128`.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> dense = Deployed("dense", "PyTorch float", {"accuracy": 0.8}, 0.5, 90_000_000, {"8x128": 150.0})
        >>> cut = Deployed("cut", "ONNX int8", {"accuracy": 0.79}, 0.5, 18_000_000, {"8x128": 40.0}, int8=12)
        >>> with TemporaryDirectory() as directory:
        ...     draw_deployed([dense, cut], Path(directory, "deploy.png"), metric="accuracy", shape="8x128")
        ...     Path(directory, "deploy.png").read_bytes()[1:4]
        b'PNG'
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    engines, models = (list(dict.fromkeys(getattr(point, name) for point in points)) for name in ("engine", "model"))
    for point in points:
        color, marker = STYLES[engines.index(point.engine) % len(STYLES)]
        place = models.index(point.model)
        style = {"marker": marker, "color": color, "markersize": 9, "linestyle": "none", "alpha": 1 / max(1, place)}
        filling = {"fillstyle": "full" if place else "none"}
        left.plot(point.ms[shape], 100 * point.metrics[metric], **style, **filling)
        right.plot(point.size_bytes / MEGABYTE, 100 * point.metrics[metric], **style, **filling)
    samples, _, tokens = shape.partition("x")
    left.set(xlabel=f"ms for {samples} x {tokens} tokens", ylabel=f"{metric} on dev, %", xscale="log")
    right.set(xlabel="MB on disk", xscale="log")
    for axes in (left, right):
        axes.grid(which="both", linewidth=0.3)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))  # more numbers than that would overlap
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    legend = [
        Line2D(
            [], [], marker=STYLES[i % len(STYLES)][1], color=STYLES[i % len(STYLES)][0], linestyle="none", label=name
        )
        for i, name in enumerate(engines)
    ]
    legend += [
        Line2D([], [], marker="o", color=BLACK, linestyle="none", label=name, alpha=1 / max(1, place),
               fillstyle="full" if place else "none")
        for place, name in enumerate(models)
    ]  # fmt: skip
    figure.legend(handles=legend, loc="outside lower center", ncols=min(4, len(legend)), frameon=False)
    figure.savefig(path, format="png", dpi=150)
