"""The floor: whether a smaller model loses no more than it may, on samples that chose nothing.

Source: a test on samples of its own after the choice, arXiv 2210.07913 (Pareto Testing); the interval is the percentile
bootstrap over pairs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from transformers import PreTrainedModel

from axformer_lightning.budgets.budget import Budget
from axformer_lightning.evidence.resampling import CONFIDENCE, FLOOR_RESAMPLES, draws
from axformer_lightning.replay import ALONE, Ranks, scoring
from axformer_lightning.scoring import Scored, check_metric, has_rows, samples_depend, step_of, to_device
from axformer_lightning.scoring.names import SAMPLE_IDS

FEWEST = 20  # samples: of fewer no share of resamples says much


@dataclass(frozen=True)
class Floor:
    """What the metric may lose, and the samples that test it.

    Args:
        metric: of which more is better, unless it says otherwise (``higher_is_better``).
        most_lost: by which it may get worse.
        batches: the samples.
        step: scores one batch of the model as it then is.
        dense: predictions of the model that nothing was removed from, shape ``(N, ...)``.
        target: what they are compared with.
    """

    metric: Metric
    most_lost: float
    batches: Sequence[Any]
    step: Callable[[Any], Scored]
    dense: Tensor
    target: Tensor

    @classmethod
    def of(cls, metric: Metric, most_lost: float, batches: Sequence[Any], step: Callable[[Any], Scored]) -> "Floor":
        """Score the model as it is now, which is what later ones are compared with.

        Raises:
            ValueError: if there are too few samples, a sample has not one prediction, or the metric takes none of them.
        """
        scored = [step(batch) for batch in batches]
        num_samples, rows = (
            sum(map(len, column)) for column in zip(*((s.loss_N, s.preds) for s in scored), strict=True)
        )
        if num_samples < FEWEST:
            raise ValueError(
                f"Expected at least {3 * FEWEST} samples with `metric_floor`, as a third of them tests it, got"
                f" {num_samples} in that third. Pass more samples."
            )
        if rows != num_samples:
            raise ValueError(
                f"Expected one prediction per sample with `metric_floor`, got {rows} of {num_samples} samples. Ask for"
                " a size instead."
            )
        preds, target = (torch.cat(column).cpu() for column in zip(*((s.preds, s.target) for s in scored), strict=True))
        check_metric(metric, [Scored(scored[0].loss_N, preds, target)], torch.device("cpu"))
        own = metric.clone().cpu()
        if not math.isfinite(value := _value(own, preds, target)):
            raise ValueError(
                f"Expected {type(metric).__name__} to have a value on the samples that test `metric_floor`, got"
                f" {value}. Pass another metric, or samples whose labels differ."
            )
        return cls(own, most_lost, batches, step, preds, target)

    def lost(self) -> float:
        """Return what the model as it is now loses at most, with 95 % confidence."""
        preds = torch.cat([self.step(batch).preds for batch in self.batches]).cpu()
        return most_lost(self.metric, self.dense, preds, self.target)


def split_floor(
    module: nn.Module, transformer: PreTrainedModel, batches: Sequence[Any], budget: Budget, ranks: Ranks = ALONE
) -> tuple[Sequence[Any], Floor | None]:
    """Return the batches that choose, and what tests the rest; without `metric_floor` all batches, and None.

    Args:
        module: what is scored: ``transformer`` itself, or the module around it.
        transformer: the model that nothing is removed from yet.
        batches: the search set, shuffled.
        budget: holds `metric_floor` and `metric`.
        ranks: the processes that share the search set.

    Raises:
        ValueError: as :meth:`Floor.of`, or if there are several processes, or fewer than three batches where a batch
            cannot be divided.
    """
    most_lost, metric = budget.options.get("metric_floor"), budget.options.get("metric")
    if most_lost is None or metric is None:
        return batches, None
    budget.check_processes(ranks.size)
    score, device = step_of(module, getattr(transformer.config, "problem_type", None)), transformer.device
    choosing, testing = _split(batches, by_rows=not samples_depend(module))
    with scoring(module, transformer):
        floor = Floor.of(metric, most_lost, testing, lambda batch: score(to_device(batch, device)))
    return choosing, floor


def _split(batches: Sequence[Any], *, by_rows: bool) -> tuple[list[Any], list[Any]]:
    """Return two thirds and a third: of the rows of every batch, or of whole batches where rows belong together."""
    if not by_rows or not all(has_rows(batch) and SAMPLE_IDS not in batch for batch in batches):
        if len(batches) < 3:
            raise ValueError(
                f"Expected at least 3 batches with `metric_floor`, as a third of them tests it, got {len(batches)}."
                " Pass smaller batches."
            )
        return [batch for i, batch in enumerate(batches) if i % 3], list(batches[::3])
    parts: tuple[list[Any], list[Any]] = [], []
    begun = 0
    for batch in batches:
        rows = torch.arange(begun, begun + len(next(iter(batch.values()))))
        begun += len(rows)
        for part, chosen in zip(parts, (rows % 3 != 0, rows % 3 == 0), strict=True):
            if chosen.any():
                part.append({name: value[chosen.to(value.device)] for name, value in batch.items()})
    return parts


def most_lost(metric: Metric, dense: Tensor, small: Tensor, target: Tensor) -> float:
    """Return the upper end of a one-sided 95 % interval of what a metric loses, over pairs of predictions.

    Args:
        metric: as of :class:`Floor`.
        dense: predictions of one model, shape ``(N, ...)``.
        small: of another.
        target: what both are compared with.

    Example:
        >>> from torchmetrics.classification import BinaryAccuracy
        >>> target = torch.tensor([0, 1] * 50)
        >>> most_lost(BinaryAccuracy(), target, target, target)
        0.0
        >>> 0.4 < most_lost(BinaryAccuracy(), target, torch.zeros_like(target), target) < 0.7
        True
    """
    sign = 1.0 if metric.higher_is_better is not False else -1.0
    losses = [
        sign * (_value(metric, dense[rows], target[rows]) - _value(metric, small[rows], target[rows]))
        for block in draws(len(target), FLOOR_RESAMPLES)
        for rows in torch.from_numpy(block)
    ]
    return float(torch.tensor(losses, dtype=torch.float64).quantile(CONFIDENCE))


def _value(metric: Metric, preds: Tensor, target: Tensor) -> float:
    metric.reset()
    metric.update(preds, target)
    value = float(metric.compute())
    metric.reset()
    return value
