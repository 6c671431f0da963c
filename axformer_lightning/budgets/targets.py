"""What a smaller model has to reach: costs that add up over its blocks, and how much of each it may have."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedModel

from axformer_lightning.anatomy import anatomy_of, layers_left
from axformer_lightning.budgets.budget import NO_TARGETS, RATIOS, TIMES, Budget
from axformer_lightning.budgets.widths import Widths, widths_of
from axformer_lightning.costs import LatencyTable, Sizes, block_cost, num_positions, rest_cost, sizes_of
from axformer_lightning.repair import BlockName, Width
from axformer_lightning.replay import ALONE, Ranks
from axformer_lightning.timing import measure_latency


@dataclass(frozen=True)
class Costs:
    """A cost that adds up over blocks.

    Args:
        of: of a block with so many units.
        rest: of all that no cut removes.
        unit: what is counted.
        kept: what stays, in words.
    """

    of: Callable[[BlockName, Width], float]
    rest: float
    unit: str
    kept: str

    def total(self, widths: Widths) -> float:
        """Return the cost of a model whose blocks have these widths."""
        return self.rest + sum(self.of(name, width) for name, width in widths.items())


@dataclass(frozen=True)
class Target:
    """A cost, and how much of it there may be.

    Args:
        name: of the option.
        costs: what adds up.
        most: that the model may cost; 0 for as little as can be.
    """

    name: str
    costs: Costs
    most: float

    def is_reached(self, widths: Widths) -> bool:
        """Tell whether a model with these widths costs no more."""
        return self.costs.total(widths) <= max(self.most, self.costs.rest) * (1 + 1e-9)

    def times_too_much(self, widths: Widths) -> float:
        """Return how many times more the blocks cost than they may; 1 or less where the target is reached."""
        blocks, may = self.costs.total(widths) - self.costs.rest, self.most - self.costs.rest
        return blocks / may if may > 0 else math.inf if blocks > 0 else 1.0


def targets_of(model: PreTrainedModel, budget: Budget, ranks: Ranks = ALONE) -> tuple[Target, ...]:
    """Return the targets of a budget for a model as it is now; with a floor alone, as small as can be.

    Args:
        model: whose costs; it runs once for those that depend on tokens, and is timed for ``speedup`` and
            ``latency_ms`` where no table is given.
        budget: what is asked for.
        ranks: the processes that cut the same model; times are those of the first.

    Raises:
        ValueError: if a target cannot be reached, which is found before anything else is measured.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> (target,) = targets_of(BertModel(config), Budget({"encoder_size_ratio": 2}))
        >>> target.most, target.costs.total({(0, "attention"): None, (0, "feed_forward"): 16})
        (300.0, 312)
    """
    asked, settings = budget.asked, budget.settings
    sizes = sizes_of(model)
    now = widths_of(sizes.anatomy, layers_left(model))
    measures = budget.measures_times
    check_can_measure(model, budget)
    if ("macs_ratio" in asked or measures) and not 1 <= settings["tokens"] <= num_positions(model):
        raise ValueError(f"Expected `tokens` to be 1 to {num_positions(model)}, got {settings['tokens']}.")
    if not asked:
        return (Target("metric_floor", _costs_of("encoder_size_ratio", model, sizes, settings), 0.0),)
    if measures:
        batch = {"batch_size": settings["batch_size"], "tokens": settings["tokens"]}
        settings["latency_table"] = _of_the_first(measure_latency(model, **batch), ranks)
    return tuple(_target(name, value, _costs_of(name, model, sizes, settings), now) for name, value in asked.items())


def check_can_measure(model: PreTrainedModel, budget: Budget) -> None:
    """Refuse times that would have to be measured of a model that is cut already.

    Raises:
        ValueError: if it is, and the budget has no latency table.
    """
    if budget.measures_times and layers_left(model) != anatomy_of(model).dense_layers():
        asked = " and ".join(f"`{name}`" for name in budget.asked if name in TIMES)
        raise ValueError(
            f"Expected a latency table with {asked} for a model that is cut already, got none: times are measured of a"
            " model of which nothing was cut. Measure that one: `latency_table=measure_latency(model)`"
            " (axformer_lightning.timing)."
        )


def _of_the_first(table: LatencyTable, ranks: Ranks) -> LatencyTable:
    """Return the table with the times of the first process: no two measure the same."""
    own = [table.rest_ms, *(ms for rungs in table.blocks.values() for _, ms in rungs)]
    times = iter(ranks.gather(own)[0])
    rest = next(times)
    blocks = {kind: tuple((units, next(times)) for units, _ in rungs) for kind, rungs in table.blocks.items()}
    return replace(table, rest_ms=rest, blocks=blocks)


def _target(name: str, value: float, costs: Costs, now: Widths) -> Target:
    total = costs.total(now)
    most = total / value if name in RATIOS else value
    if most < costs.rest:
        allowed, bound = ("most", total / costs.rest) if name in RATIOS else ("least", costs.rest)
        raise ValueError(
            f"Expected `{name}` of at {allowed} {bound:.4g}, got {value:g}: {costs.kept} stay, and take"
            f" {costs.rest:.4g} of {total:.4g} {costs.unit}."
        )
    return Target(name, costs, most)


def _costs_of(name: str, model: PreTrainedModel, sizes: Sizes, settings: Mapping[str, Any]) -> Costs:
    tokens: int = settings["tokens"]
    if name in TIMES:
        table: LatencyTable = settings["latency_table"]
        check_table(table, sizes)
        _check_batch(table, settings)
        return Costs(
            lambda block, width: table.block_ms(block[1], width), table.rest_ms, "milliseconds", "Embeddings and head"
        )
    if name == "macs_ratio":
        rest = rest_cost(model, sizes, tokens).macs
        return Costs(
            lambda block, width: block_cost(sizes, *block, width, tokens).macs,
            rest,
            "multiply-adds",
            "Embeddings and head",
        )
    norms = sum(size.others for size in sizes.layers)
    whole = name == "file_size_ratio"
    return Costs(
        lambda block, width: sizes.layers[block[0]].blocks[block[1]].parameters(width),
        norms + sizes.rest if whole else norms,
        "parameters",
        "Embeddings, norms and head" if whole else "Norms",
    )


def check_table(table: LatencyTable, sizes: Sizes) -> None:
    """Raise unless a table is of a model of this shape; where it was measured is for its owner to know.

    Raises:
        ValueError: naming what differs.
    """
    at, anatomy = table.conditions, sizes.anatomy
    names = ("model_type", "num_layers", "num_heads", "head_size", "intermediate_size")
    if differing := {n: (getattr(at, n), getattr(anatomy, n)) for n in names if getattr(at, n) != getattr(anatomy, n)}:
        told = ", ".join(f"{name}={theirs!r} instead of {mine!r}" for name, (theirs, mine) in differing.items())
        raise ValueError(f"Expected a latency table of a model of this shape, got one of another: {told}.")


def _check_batch(table: LatencyTable, settings: Mapping[str, Any]) -> None:
    """Raise where another batch is asked for than the table is of; what is not asked for is as in the table."""
    for name in ("batch_size", "tokens"):
        asked, measured = settings[name], getattr(table.conditions, name)
        if asked not in (measured, NO_TARGETS[name]):
            raise ValueError(
                f"Expected a latency table with `{name}` {asked}, got one that was measured at {measured}. Leave out"
                f" `{name}`, or measure a table at {asked}."
            )
