"""Numbers of a cell: means and standard deviations over its finished runs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from axformer_lightning.evidence import mean_of
from axformer_lightning.report.cells import Cell, Outcome


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of some runs; it is false where a run has diverged and neither is a number.

    Args:
        mean: of the values.
        deviation: None of a single value.
        count: how many values there are.

    Example:
        >>> str(Spread.of([80.0, 81.0])), str(Spread.of([80.0])), Spread.of([])
        ('80.50 ± 0.71', '80.00', None)
        >>> nothing = Spread.of([80.0, float("nan")])
        >>> str(nothing), bool(nothing)
        ('no number', False)
    """

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """Return the spread of values, or None unless all of them were measured."""
        known = list(values)
        if not known or None in known:
            return None
        numbers = [float(value) for value in known if value is not None]
        found = mean_of(numbers)
        return cls(found.mean, found.deviation, len(numbers))

    def __bool__(self) -> bool:
        return not math.isnan(self.mean)

    def __str__(self) -> str:
        if not self:
            return "no number"
        return f"{self.mean:.2f}" + ("" if self.deviation is None else f" ± {self.deviation:.2f}")


@dataclass(frozen=True)
class Numbers:
    """What a cell's finished runs come to.

    Args:
        metric: the headline metric's name; empty if no run is finished.
        points: the metric times 100.
        dense: that of the dense models they were cut from.
        smaller: how many times smaller the encoder is.
        file: how many times smaller the file is.
        faster: how many times faster a batch of 32 is.
        faster_alone: how many times faster a single sample is.
    """

    metric: str = ""
    points: Spread | None = None
    dense: Spread | None = None
    smaller: Spread | None = None
    file: Spread | None = None
    faster: Spread | None = None
    faster_alone: Spread | None = None


def numbers_of(cell: Cell) -> Numbers:
    """Return the numbers of a cell."""
    if not cell.outcomes:
        return Numbers()
    return Numbers(
        cell.headline,
        Spread.of(100 * value for value in cell.values),
        Spread.of(100 * value for value in cell.dense_values),
        Spread.of(_inverse(outcome.model.costs.get("encoder")) for outcome in cell.outcomes),
        Spread.of(_inverse(outcome.model.costs.get("file")) for outcome in cell.outcomes),
        _faster(cell.outcomes, "batch32"),
        _faster(cell.outcomes, "batch1"),
    )


def _inverse(share: float | None) -> float | None:
    return 1 / share if share else None


def _faster(outcomes: Sequence[Outcome], batch: str) -> Spread | None:
    ratios: list[Any] = []
    for outcome in outcomes:
        before = (outcome.record.results["baseline"].get("latency_ms") or {}).get(batch)
        after = (outcome.model.costs.get("latency_ms") or {}).get(batch)
        ratios.append(before / after if before and after else None)
    return Spread.of(ratios)
