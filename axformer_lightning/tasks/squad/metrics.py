"""Exact match and F1 of SQuAD v1.1 and v2.0, as fractions.

Shape suffixes: ``N`` questions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.text import squad
from torchmetrics.text import SQuAD
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.wrappers.abstract import WrapperMetric

Answer = Mapping[str, Any]


class SquadMetrics(SQuAD):
    """Exact match and F1 of SQuAD v1.1: those of torchmetrics, as fractions.

    Example:
        >>> metrics = SquadMetrics()
        >>> target = [{"id": "1", "answers": {"text": ["the grey otter"], "answer_start": [0]}}]
        >>> metrics.update([{"id": "1", "prediction_text": "The otter"}], target)
        >>> metrics.compute()
        {'exact_match': tensor(0.), 'f1': tensor(0.6667)}
    """

    plot_upper_bound = 1.0

    def compute(self) -> dict[str, Tensor]:
        """Return `exact_match` and `f1`."""
        return {name: value / 100 for name, value in super().compute().items()}


class SquadV2Metrics(Metric):
    """Metrics of SQuAD v2.0 as its official script `evaluate-v2.0.py` computes them, as fractions.

    A prediction is `{"id", "prediction_text", "no_answer_score"}`: the best answer, and how much the model prefers to
    give none. `exact_match` and `f1` count a score above 0 as "no answer"; `best_exact_match` and `best_f1` count a
    score above `best_exact_match_threshold` and `best_f1_threshold`, the best thresholds for these very questions.
    `has_answer_exact_match`, `has_answer_f1`, `no_answer_exact_match` and `no_answer_f1` cover the questions with and
    without an answer, if there are any.

    Raises:
        ValueError: if a prediction has no score.

    Example:
        >>> metrics = SquadV2Metrics()
        >>> preds = [{"id": "1", "prediction_text": "an otter", "no_answer_score": 2.5}]
        >>> metrics.update(preds, [{"id": "1", "answers": {"text": [], "answer_start": []}}])
        >>> {name: value.item() for name, value in metrics.compute().items() if name.startswith("no_answer")}
        {'no_answer_exact_match': 1.0, 'no_answer_f1': 1.0}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Per question: exact match, F1, no-answer score, whether it has an answer, whether the prediction is empty.
        self.add_state("scores", [], dist_reduce_fx="cat")

    def update(self, preds: Sequence[Answer], target: Sequence[Answer]) -> None:
        """Add questions; ``preds`` and ``target`` are in the same order."""
        rows = []
        for pred, truth in zip(preds, target, strict=True):
            if "no_answer_score" not in pred:
                raise ValueError(
                    f"Expected `no_answer_score` in every prediction, got {sorted(pred)}: pass 0.0 if there is none."
                )
            texts = truth["answers"]["text"]
            exact, f1 = _scores(pred["prediction_text"], texts)
            rows.append([exact, f1, pred["no_answer_score"], bool(texts), not pred["prediction_text"]])
        self.scores.append(torch.tensor(rows, dtype=torch.float32, device=self.device).reshape(-1, 5))

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics by their names."""
        exact_N, f1_N, score_N, has_answer_N, empty_N = dim_zero_cat(self.scores).cpu().double().unbind(1)
        has_answer_N, silent_N = has_answer_N.bool(), score_N > 0
        raw = {"exact_match": exact_N, "f1": f1_N}
        metrics = {}
        for name, value_N in raw.items():
            decided_N = torch.where(silent_N, (~has_answer_N).double(), value_N)
            metrics[name] = decided_N.mean()
            for part, chosen_N in (("has_answer", has_answer_N), ("no_answer", ~has_answer_N)):
                if chosen_N.any():
                    metrics[f"{part}_{name}"] = decided_N[chosen_N].mean()
        for name, value_N in raw.items():
            best, threshold = _best(value_N, score_N, has_answer_N, empty_N.bool())
            metrics |= {f"best_{name}": best, f"best_{name}_threshold": threshold}
        return {name: value.float().to(self.device) for name, value in metrics.items()}


def entry_of(metric: Metric, name: str) -> Metric:
    """Return a metric whose value is one entry of the result of ``metric``.

    Updates, resets and moves are passed on, so ``metric`` should not be used elsewhere.

    Args:
        metric: its `compute()` returns a dict; higher is better.
        name: name of the entry.

    Example:
        >>> metric = entry_of(SquadMetrics(), "f1")
        >>> answers = {"text": ["the grey otter"], "answer_start": [0]}
        >>> metric.update([{"id": "1", "prediction_text": "The otter"}], [{"id": "1", "answers": answers}])
        >>> metric.compute()
        tensor(0.6667)
    """
    return _Entry(metric, name)


class _Entry(WrapperMetric):
    is_differentiable = False
    higher_is_better = True

    def __init__(self, metric: Metric, name: str) -> None:
        super().__init__()
        self.metric = metric
        self.name = name

    def update(self, *args: Any, **kwargs: Any) -> None:
        self.metric.update(*args, **kwargs)

    def compute(self) -> Tensor:
        value: Tensor = self.metric.compute()[self.name]
        return value

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        value: Tensor = self.metric(*args, **kwargs)[self.name]
        return value

    def reset(self) -> None:
        super().reset()
        self.metric.reset()


def values_of(preds: Sequence[Answer], target: Sequence[Answer], *, may_be_silent: bool) -> dict[str, Tensor]:
    """Return exact match and F1 of each question; their means are the metrics.

    Args:
        preds: as of the metrics.
        target: what they are compared with, in the same order.
        may_be_silent: whether a `no_answer_score` above 0 is no answer, as in SQuAD v2.0.

    Example:
        >>> target = [{"id": "1", "answers": {"text": [], "answer_start": []}}]
        >>> values_of([{"id": "1", "prediction_text": "an otter", "no_answer_score": 2.5}], target, may_be_silent=True)
        {'exact_match': tensor([1.]), 'f1': tensor([1.])}
    """
    rows = []
    for pred, truth in zip(preds, target, strict=True):
        silent = may_be_silent and pred["no_answer_score"] > 0
        rows.append(_scores("" if silent else pred["prediction_text"], truth["answers"]["text"]))
    exact_N, f1_N = torch.tensor(rows, dtype=torch.float32).reshape(-1, 2).unbind(1)
    return {"exact_match": exact_N, "f1": f1_N}


def _scores(prediction: str, texts: Sequence[str]) -> tuple[float, float]:
    """Return exact match and F1 of one question; if it has no answer, both say whether the prediction is empty."""
    # The official script ignores answers that consist of articles and punctuation only.
    real = [text for text in texts if not _match(text, [""])[0]]
    return _match(prediction, real or [""])


def _match(prediction: str, texts: Sequence[str]) -> tuple[float, float]:
    answers: Any = {"text": list(texts), "answer_start": [0] * len(texts)}
    values = squad({"id": "", "prediction_text": prediction}, {"id": "", "answers": answers})
    return values["exact_match"].item() / 100, values["f1"].item() / 100


def _best(value_N: Tensor, score_N: Tensor, has_answer_N: Tensor, empty_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest mean that a threshold on the no-answer score reaches, and the lowest such threshold.

    It starts with "no answer" to every question, and answers them one by one, the most confident first.
    """
    gain_N = torch.where(has_answer_N, value_N, -(~empty_N).double())
    order_N = score_N.argsort(stable=True)
    total = torch.cat([(~has_answer_N).double().sum()[None], gain_N[order_N]]).cumsum(0)
    first = (total == total.max()).nonzero()[0, 0]
    threshold = score_N[order_N[first - 1]] if first > 0 else torch.zeros(())
    return total[first] / len(value_N), threshold
