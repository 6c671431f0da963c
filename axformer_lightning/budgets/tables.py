"""What each width of each block does to the model, measured, and what it costs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from axformer_lightning.budgets.probe import Damage, Probe
from axformer_lightning.budgets.widths import Width, ladder, layers_of, widths_of
from axformer_lightning.repair import BlockName, RemovalOrder

Table = Mapping[BlockName, tuple["Option", ...]]
CostOf = Callable[[BlockName, Width], float]
UNCHANGED = Damage(0.0, 0.0, 0.0, 0)


@dataclass(frozen=True)
class Option:
    """One width of one block, the others being as they are.

    Args:
        width: units that are left; None where the block is removed.
        cost: of the block with that width.
        damage: measured on the search set.
        error: squared error of the block's output, as a share of the output's mean square.
    """

    width: Width
    cost: float
    damage: Damage
    error: float


def measure_table(
    probe: Probe, orders: Mapping[BlockName, RemovalOrder], cost_of: CostOf, *, most: int | None = None
) -> Table:
    """Return the options of every block that is left, from whole to removed.

    Args:
        probe: measures.
        orders: in which the units of each block go.
        cost_of: what a block of some width costs.
        most: batches to measure each by, by default all.
    """
    now = widths_of(probe.replay.anatomy, probe.replay.before)
    return {
        name: tuple(_option(probe, orders, cost_of, name, width, most) for width in ladder(units))
        for name, units in now.items()
        if units is not None
    }


def _option(
    probe: Probe,
    orders: Mapping[BlockName, RemovalOrder],
    cost_of: CostOf,
    name: BlockName,
    width: Width,
    most: int | None,
) -> Option:
    order, cost = orders[name], cost_of(name, width)
    if width == len(order.units):
        return Option(width, cost, UNCHANGED, 0.0)
    layers = layers_of(probe.replay.anatomy, probe.replay.before, orders, {name: width})
    return Option(width, cost, probe.measure(layers, most=most), lost_share(order, width))


def lost_share(order: RemovalOrder, width: Width) -> float:
    """Return the share of a block's output that is lost: scores add up to the squared error."""
    gone = len(order.units) - (width or 0)
    total = sum(order.scores)
    return sum(order.scores[:gone]) / total if total > 0 else 0.0
