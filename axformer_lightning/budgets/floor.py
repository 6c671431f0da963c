"""The floor: whether a smaller model loses no more than it may, on samples that chose nothing.

Source: a test on samples of its own after the choice, arXiv 2210.07913 (Pareto Testing); the interval is the percentile
bootstrap over pairs.
"""

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
from axformer_lightning.scoring import Scored, step_of, to_device

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
            ValueError: if there are too few samples, or a sample has not one prediction.
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
        return cls(metric.clone(), most_lost, batches, step, preds, target)

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
        ValueError: as :meth:`Floor.of`, or if there are several processes.
    """
    most_lost, metric = budget.options.get("metric_floor"), budget.options.get("metric")
    if most_lost is None or metric is None:
        return batches, None
    budget.check_processes(ranks.size)
    score, device = step_of(module, getattr(transformer.config, "problem_type", None)), transformer.device
    with scoring(module, transformer):
        floor = Floor.of(metric, most_lost, batches[::3], lambda batch: score(to_device(batch, device)))
    return [batch for i, batch in enumerate(batches) if i % 3], floor


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
