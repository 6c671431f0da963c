"""Which way of making a model smaller serves best at equal size: the search set decides, the dev set reports."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from axformer_lightning.anatomy import anatomy_of, layers_left
from axformer_lightning.budgets import Effort, widths_of
from axformer_lightning.costs import count_encoder_parameters, layer_sizes
from axformer_lightning.sweeps.baselines import METHODS, Method
from axformer_lightning.sweeps.reports import Report, report_of
from axformer_lightning.tasks import Task

DENSE = "dense"


@dataclass(frozen=True)
class BudgetResult:
    """What one way of making a model smaller came to at one size.

    Args:
        method: name of the way, or ``dense``.
        ratio: by which the encoder was to be smaller; 1 of the dense model.
        reached: by which it is smaller.
        report: on the dev set.
        searched: on the samples that decided.
        cpu_seconds: of the search up to here, on all threads of this process, without the reports.
        seconds: the same by the clock.
        widths: heads and neurons left of each layer, None where a block is removed.
        retrained: on the dev set, after training once more; None without.
    """

    method: str
    ratio: float
    reached: float
    report: Report
    searched: Report
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    widths: list[list[int | None]] = field(default_factory=list)
    retrained: Report | None = None

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> "BudgetResult":
        """Return what :func:`dataclasses.asdict` and JSON have made plain."""
        reports = {key: Report(**entries[key]) for key in ("report", "retrained", "searched") if entries.get(key)}
        return cls(**{**entries, **reports})


def compare_budgets(
    model: PreTrainedModel,
    task: Task,
    search: Sequence[Mapping[str, Tensor]],
    dev: Sequence[Mapping[str, Tensor]],
    *,
    ratios: Sequence[float],
    methods: Mapping[str, Method] = METHODS,
    effort: Effort | None = None,
    retrain: Callable[[PreTrainedModel], None] | None = None,
    known: Sequence[BudgetResult] = (),
) -> Iterator[BudgetResult]:
    """Yield what the dense model comes to, and then each method at each ratio that it can reach.

    Args:
        model: a fine-tuned model, which stays as it is.
        task: what it does.
        search: batches that decide.
        dev: batches that report.
        ratios: by which the encoder is to be smaller.
        methods: ways to do so, by name.
        effort: how much ours measures; None is its default.
        retrain: trains a model in place, the dense one as well; None reports what was not trained.
        known: results of the same comparison, which are yielded as they are where a method has one for every ratio.

    Raises:
        ValueError: if a ratio is not above 1, or no encoder can be that much smaller.
    """
    ratios = checked_ratios(model, ratios)
    encoder = count_encoder_parameters(model)

    def result(name: str, ratio: float, small: PreTrainedModel, cpu: float = 0.0, clock: float = 0.0) -> BudgetResult:
        reached = encoder / count_encoder_parameters(small)
        left = widths_of(anatomy_of(small), layers_left(small))
        widths = [[left[i, "attention"], left[i, "feed_forward"]] for i in range(len(left) // 2)]
        reports = report_of(small, task, dev), report_of(small, task, search)
        found = BudgetResult(name, ratio, reached, *reports, cpu, clock, widths)
        if retrain is None:
            return found
        again = copy.deepcopy(small)  # the next ratio begins with the model that was not trained
        retrain(again)
        return replace(found, retrained=report_of(again, task, dev))

    whole = {name: [one for one in known if one.method == name] for name in (DENSE, *methods)}
    yield from whole[DENSE] or [result(DENSE, 1.0, model)]
    for name, method in methods.items():
        if ratios == [one.ratio for one in whole[name]]:
            yield from whole[name]
            continue
        small = copy.deepcopy(model)
        cuts = method(small, search, ratios, effort or Effort())
        cpu_seconds = seconds = 0.0
        while True:
            cpu, clock = time.process_time(), time.perf_counter()
            ratio = next(cuts, None)
            cpu_seconds += time.process_time() - cpu
            seconds += time.perf_counter() - clock
            if ratio is None:
                break
            yield result(name, ratio, small, cpu_seconds, seconds)


def checked_ratios(model: PreTrainedModel, ratios: Sequence[float]) -> list[float]:
    """Return ratios in ascending order, each once.

    Args:
        model: that is to be made smaller.
        ratios: by which its encoder is to be smaller.

    Raises:
        ValueError: if one is not above 1, or no encoder can be that much smaller.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        >>> checked_ratios(BertModel(BertConfig(**sizes)), [3, 2, 3])
        [2, 3]
    """
    most = count_encoder_parameters(model) / sum(size.others for size in layer_sizes(model))
    for ratio in ratios:
        if not (math.isfinite(ratio) and 1 < ratio <= most):
            raise ValueError(f"Expected ratios above 1 and up to {most:.4g}, where only norms are left, got {ratio:g}.")
    return sorted(set(ratios))
