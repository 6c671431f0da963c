"""Numbers of a cell: means and standard deviations over its finished runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from axformer_lightning.evidence import Mean, mean_of
from axformer_lightning.report.cells import Cell, Outcome


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
    points: Mean | None = None
    dense: Mean | None = None
    smaller: Mean | None = None
    file: Mean | None = None
    faster: Mean | None = None
    faster_alone: Mean | None = None


def numbers_of(cell: Cell) -> Numbers:
    """Return the numbers of a cell."""
    if not cell.outcomes:
        return Numbers()
    return Numbers(
        cell.headline,
        known_mean(100 * value for value in cell.values),
        known_mean(100 * value for value in cell.dense_values),
        known_mean(_inverse(outcome.model.costs.get("encoder")) for outcome in cell.outcomes),
        known_mean(_inverse(outcome.model.costs.get("file")) for outcome in cell.outcomes),
        _faster(cell.outcomes, "batch32"),
        _faster(cell.outcomes, "batch1"),
    )


def _inverse(share: float | None) -> float | None:
    return 1 / share if share else None


def _faster(outcomes: Sequence[Outcome], batch: str) -> Mean | None:
    ratios: list[Any] = []
    for outcome in outcomes:
        before = (outcome.record.results["baseline"].get("latency_ms") or {}).get(batch)
        after = (outcome.model.costs.get("latency_ms") or {}).get(batch)
        ratios.append(before / after if before and after else None)
    return known_mean(ratios)


def known_mean(values: Iterable[float | None]) -> Mean | None:
    """Return the mean of values, or None unless all of them were measured.

    Example:
        >>> print(known_mean([80.0, None]), known_mean([]), f"{known_mean([80.0, 81.0])}")
        None None 80.50 ± 0.71
    """
    known = list(values)
    numbers = [float(value) for value in known if value is not None]
    return mean_of(numbers) if numbers and len(numbers) == len(known) else None


def is_drawn(mean: Mean | None) -> TypeGuard[Mean]:
    """Tell whether there is a mean, and whether it is a number: that of models of which one diverged is not."""
    return mean is not None and mean.is_number
