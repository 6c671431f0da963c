"""A picture of how a metric falls as the encoder gets smaller."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from axformer_lightning.basics.colors import BLUE, RED

CUT, MODEL = BLUE, RED


def draw_pareto(points: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], *, metric: str) -> None:
    """Draw the search loss of cuts and the metric of models against how many times smaller they are, as a PNG.

    A model without anything left of its encoder has no place there, and is not drawn.

    Args:
        points: the content of `pareto.json`, the dense model first.
        path: the file to write; replaced if it exists.
        metric: of those on the dev set the one that is drawn.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> dense = {"encoder_size": 1.0, "metrics": {"accuracy": 0.81}}
        >>> cut = {"encoder_size": 0.5, "search_loss": 0.45, "metrics": {"accuracy": 0.8}}
        >>> with TemporaryDirectory() as directory:
        ...     draw_pareto([dense, cut], Path(directory, "pareto.png"), metric="accuracy")
        ...     Path(directory, "pareto.png").read_bytes()[1:4]
        b'PNG'
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    sized = [(1 / point["encoder_size"], point) for point in points if point["encoder_size"]]
    models = [(smaller, point["metrics"][metric]) for smaller, point in sized if "metrics" in point]
    cuts = [(smaller, point["search_loss"]) for smaller, point in sized if "search_loss" in point]
    left.plot(*zip(*models, strict=True), "D-", color=MODEL)
    if cuts:
        right.plot(*zip(*cuts, strict=True), "o--", color=CUT, markersize=4)
    left.axhline(models[0][1], color=MODEL, linewidth=0.8, linestyle=":")
    left.annotate("dense", models[0], textcoords="offset points", xytext=(4, 4), fontsize=8)
    left.set_xlabel("encoder, times smaller")
    left.set_ylabel(f"{metric} on dev", color=MODEL)
    right.set_ylabel("loss on the search set", color=CUT)
    right.ticklabel_format(useOffset=False)
    figure.savefig(path, format="png", dpi=150)
