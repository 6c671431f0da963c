"""Pictures of searches: what was removed, the timeline, the damage of widths."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from axformer_lightning.basics.colors import BLUE
from axformer_lightning.plan import Decision, Plan
from axformer_lightning.report.charts import WIDTH, Picture
from axformer_lightning.report.svg import INK, MUTED, PAPER

LINEAR = 0.01  # up to which damage is drawn on a linear scale
BLOCKS = ("attention", "feed_forward")


def removed(plans: Sequence[Plan]) -> Picture:
    """Draw the share of each block that is removed, the mean over seeds, and in how many seeds all of it is.

    Args:
        plans: of one setting, of models with equally many layers.
    """
    num_layers = plans[0].num_layers
    figure = Figure(figsize=(WIDTH, 1.9), layout="constrained")
    ax = figure.subplots()
    said: dict[str, list[str]] = {"removed": []}
    rectangles, alphas = [], []
    for row, block in enumerate(BLOCKS):
        for layer in range(num_layers):
            shares = [removed_share(plan, layer, block) for plan in plans]
            share, wholes = sum(shares) / len(shares), sum(share == 1 for share in shares)
            rectangles.append((layer, 1 - row))
            alphas.append(share)
            more = f", in {wholes} of {len(plans)} as a whole" if wholes else ""
            said["removed"].append(f"Layer {layer}, {block.replace('_', '-')}: {100 * share:.0f} % removed{more}")
            label = f"{100 * share:.0f} %" if share else ""
            if wholes and len(plans) > 1:
                label += f"\n{wholes} of {len(plans)}"
            ax.text(layer + 0.5, 1.5 - row, label, ha="center", va="center", fontsize=7.5, color=_on(share))
    _cells(ax, rectangles, alphas, "removed")
    ax.set(xlim=(0, num_layers), ylim=(0, 2), xlabel="layer (from the input)")
    ax.set_xticks([layer + 0.5 for layer in range(num_layers)], [str(layer) for layer in range(num_layers)])
    ax.set_yticks([1.5, 0.5], ["attention", "feed-forward"])
    _bare(ax)
    return figure, said


def timeline(decisions: Sequence[Decision]) -> Picture:
    """Draw the loss of each candidate in the order tried, and the best loss so far.

    Args:
        decisions: of a plan.
    """
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    ax = figure.subplots()
    best = [d.loss if d.accepted and d.loss is not None else d.best_before for d in decisions]
    ax.step(range(1, len(best) + 1), best, where="post", color=INK, linewidth=1.2, label="with all that is accepted")
    losses = [d.loss for d in decisions if d.loss is not None]
    floor, top = min([*best, *losses]), _top([*best, *losses])
    said = {}
    for name, color, marker, accepted in (("rejected", MUTED, "x", False), ("accepted", BLUE, "o", True)):
        chosen = [(i, d) for i, d in enumerate(decisions, 1) if d.accepted is accepted]
        if not chosen:
            continue
        said[f"tried-{name}"] = [_said(d) for _, d in chosen]
        heights = [min(top, d.loss if d.loss is not None else d.best_before) for _, d in chosen]
        size = 22 if accepted else 13
        ax.scatter([i for i, _ in chosen], heights, color=color, marker=marker, s=size, label=name, gid=f"tried-{name}",
                   zorder=2 + accepted, linewidths=1)  # fmt: skip
    room = 0.06 * (top - floor) or 0.01
    ax.set_ylim(floor - room, top + room)
    ax.set(xlabel="candidate, in the order tried", ylabel="loss on the search set")
    ax.ticklabel_format(useOffset=False)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper left", ncols=3)
    return figure, said


def damage(table: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw what each width of each block does to a model, the others being whole.

    Args:
        table: of one slice, as damage.json holds it.
    """
    by_block = {block: [row for row in table if row["block"] == block] for block in BLOCKS}
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    said: dict[str, list[str]] = {}
    most = max(1, max((row["layer"] for row in table), default=1))
    for ax, (block, rows) in zip(axes, by_block.items(), strict=True):
        for row in rows:
            widths = [0 if width is None else width for width in row["widths"]]
            gid = f"damage-{block}-{row['layer']}"
            near = row["layer"] / most
            ax.plot(widths, row["damage"], color=BLUE, linewidth=1, alpha=0.35 + 0.65 * near)
            ax.scatter(widths, row["damage"], color=BLUE, s=9, alpha=0.35 + 0.65 * near, gid=gid)
            said[gid] = [
                f"Layer {row['layer']}, {block.replace('_', '-')}, "
                + ("removed" if width is None else f"{width} left")
                + f": damage {lost:+.4f}"
                for width, lost in zip(row["widths"], row["damage"], strict=True)
            ]
            worst = int(np.argmax(row["damage"]))
            ax.annotate(str(row["layer"]), (widths[worst], row["damage"][worst]), fontsize=8,
                        textcoords="offset points", xytext=(4, 2), color=MUTED)  # fmt: skip
        ax.set(title=block.replace("_", "-"), xlabel="heads left" if block == "attention" else "neurons left")
        ax.set_yscale("symlog", linthresh=LINEAR)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        ax.invert_xaxis()
    axes[0].set_ylabel(f"damage\n(logarithmic beyond {LINEAR})")
    return figure, said


def removed_share(plan: Plan, layer: int, block: str) -> float:
    """Return which share of a block's units a plan removes.

    Example:
        >>> from axformer_lightning.anatomy import LayerPlan
        >>> plan = Plan("bert", 1, 4, 64, (LayerPlan(heads_removed=(1,), neurons_removed=((0, 32),)),))
        >>> removed_share(plan, 0, "attention"), removed_share(plan, 0, "feed_forward")
        (0.25, 0.5)
    """
    left = plan.layers[layer]
    if getattr(left, block) == "removed":
        return 1.0
    if block == "attention":
        return len(left.heads_removed) / plan.num_heads
    return sum(stop - start for start, stop in left.neurons_removed) / plan.intermediate_size


def _cells(ax: Any, corners: Sequence[tuple[float, float]], shares: Sequence[float], gid: str) -> None:
    patches = [Rectangle((x + 0.04, y + 0.06), 0.92, 0.88) for x, y in corners]
    colors = [to_rgba(BLUE, 0.06 + 0.94 * share) for share in shares]
    ax.add_collection(PatchCollection(patches, facecolors=colors, edgecolors=MUTED, linewidths=0.5, gid=gid, zorder=1))


def _on(share: float) -> str:
    return PAPER if share > 0.6 else INK


def _bare(ax: Any) -> None:
    ax.grid(visible=False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _top(losses: Sequence[float]) -> float:
    """Return up to where losses are drawn: one that is far out would flatten all others."""
    low, high = float(np.min(losses)), float(np.max(losses))
    usual = float(np.quantile(losses, 0.9))
    return high if high - low <= 4 * (usual - low) or usual == low else low + 2 * (usual - low)


def _said(decision: Decision) -> str:
    which = f"{decision.kind.replace('_', ' ')} {'' if decision.index is None else decision.index}".strip()
    loss = "stopped early" if decision.loss is None else f"loss {decision.loss:.4f}"
    became = "accepted" if decision.accepted else "rejected"
    return f"Layer {decision.layer}, {which}: {loss}, before {decision.best_before:.4f}, {became}"
