"""What each width of each block does to the model, measured, and what it costs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from axformer_lightning.budgets.damage import Damage
from axformer_lightning.budgets.probe import Probe
from axformer_lightning.budgets.widths import layers_of, widths_of
from axformer_lightning.repair import BlockName, RemovalOrder, Width, ladder

Table = Mapping[BlockName, tuple["Option", ...]]
CostOf = Callable[[BlockName, Width], float]
Objective = Callable[[Damage], float]
MEASURED = (0.5, 0.25, 0.125, 0.0625)  # shares of a block's units at which its damage is measured


@dataclass(frozen=True)
class Option:
    """One width of one block, the others being as they are.

    Args:
        width: units that are left; None where the block is removed.
        cost: of the block with that width.
        damage: what is lost on the search set, 0 for the whole block.
        error: squared error of the block's output, as a share of the error with no units at all.
    """

    width: Width
    cost: float
    damage: float
    error: float


def measure_table(
    probe: Probe,
    orders: Mapping[BlockName, RemovalOrder],
    cost_of: CostOf,
    objective: Objective,
    *,
    most: int | None = None,
) -> Table:
    """Return the options of every block that is left, from whole to removed.

    Four widths of a block are measured, and the model without it. Widths between have a damage between, by the error of
    the block's output, which is known for every width.

    Args:
        probe: measures.
        orders: in which the units of each block go.
        cost_of: what a block of some width costs.
        objective: what damage is.
        most: batches to measure each by, by default all.
    """
    anatomy, before = probe.replay.anatomy, probe.replay.before
    table = {}
    for name, units in widths_of(anatomy, before).items():
        if units is None:
            continue
        order, known = orders[name], {0.0: 0.0}
        narrower = sorted({max(1, round(units * share)) for share in MEASURED if units}, reverse=True)
        for width in (*narrower, None):
            if width is None or width < units:
                damage = probe.measure(layers_of(anatomy, before, orders, {name: width}), most=most)
                known[lost_share(order, width)] = objective(damage)
        table[name] = tuple(
            Option(width, cost_of(name, width), between(known, error), error)
            for width in ladder(units)
            for error in [lost_share(order, width)]
        )
    return table


def lost_share(order: RemovalOrder, width: Width) -> float:
    """Return the error of a block's output with so many units left, as a share of that without any.

    Example:
        >>> lost_share(RemovalOrder((0, 1, 2), (0.0, 1.0, 3.0)), 1)
        0.25
    """
    if width is None:
        return 1.0
    gone = len(order.units) - width
    total = sum(order.scores)
    return sum(order.scores[:gone]) / total if total > 0 else 0.0


def between(known: Mapping[float, float], at: float) -> float:
    """Return the value on the line through the two known points around one; infinity beside one that is infinite.

    Example:
        >>> known = {0.0: 0.0, 0.5: 1.0, 1.0: float("inf")}
        >>> between(known, 0.25), between(known, 0.5), between(known, 0.75)
        (0.5, 1.0, inf)
    """
    points = sorted(known)
    values = np.array([known[point] for point in points])
    if np.interp(at, points, np.isinf(values).astype(float)) > 0:
        return float("inf")
    return float(np.interp(at, points, np.where(np.isinf(values), 0.0, values)))
