"""What a model is made smaller to, as a user says it."""

import math
import os
from dataclasses import dataclass
from numbers import Real
from typing import Any

from torchmetrics import Metric
from typing_extensions import TypedDict

from axformer_lightning.basics import check_at_least, check_types
from axformer_lightning.costs import LatencyTable


class TargetOptions(TypedDict, total=False):
    """What a smaller model has to reach. Of several targets all are.

    Args:
        encoder_size_ratio: how many times fewer parameters the encoder's layers are to have.
        file_size_ratio: how many times fewer bytes all weights are to have, embeddings included.
        macs_ratio: how many times fewer multiply-adds a sample of ``tokens`` tokens is to take.
        speedup: how many times faster a batch of ``batch_size`` such samples is to be.
        latency_ms: most milliseconds that such a batch may take.
        metric_floor: most that the metric may lose, with 95 % confidence; a third of the search set then only tests
            that. Without another target the model gets as small as that allows.
        metric: the torchmetrics metric of ``metric_floor``.
        batch_size: samples of a batch.
        tokens: of a sample.
        latency_table: where times are taken from, or the file that it was saved to; by default they are measured here
            (:func:`~axformer_lightning.timing.measure_latency`), which needs a model of which nothing was cut. Only
            with `speedup` or `latency_ms`.
    """

    encoder_size_ratio: float | None
    file_size_ratio: float | None
    macs_ratio: float | None
    speedup: float | None
    latency_ms: float | None
    metric_floor: float | None
    metric: Metric | None
    batch_size: int
    tokens: int
    latency_table: LatencyTable | str | os.PathLike[str] | None


NO_TARGETS: dict[str, Any] = {
    "encoder_size_ratio": None,
    "file_size_ratio": None,
    "macs_ratio": None,
    "speedup": None,
    "latency_ms": None,
    "metric_floor": None,
    "metric": None,
    "batch_size": 32,
    "tokens": 128,
    "latency_table": None,
}
RATIOS = ("encoder_size_ratio", "file_size_ratio", "macs_ratio", "speedup")
TIMES = ("speedup", "latency_ms")
TARGETS = (*RATIOS, "latency_ms", "metric_floor")


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        table_samples: samples by which single widths are measured.
        tries: swaps that are measured in each slice.
        bf16: whether candidates are measured under autocast to bfloat16 where that is faster on this machine; moments
            and repairs are in full precision all the same.

    Raises:
        ValueError: if a number is out of range, or a setting of another type.
    """

    table_samples: int = 128
    tries: int = 16
    bf16: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least("table_samples", self.table_samples, 1)
        check_at_least("tries", self.tries, 0)


DEFAULT_EFFORT = Effort()


@dataclass(frozen=True)
class Budget:
    """What a model is made smaller to.

    Args:
        options: of :class:`TargetOptions`; those left out are as in :data:`NO_TARGETS`.
        effort: how much is measured.

    Raises:
        ValueError: if no target is given, or a setting is out of range or of another type.

    Example:
        >>> Budget({"encoder_size_ratio": 0.5})
        Traceback (most recent call last):
        ValueError: Expected `encoder_size_ratio` to be a number above 1, got 0.5.
    """

    options: TargetOptions
    effort: Effort = DEFAULT_EFFORT

    def __post_init__(self) -> None:
        if not isinstance(self.effort, Effort):
            raise ValueError(f"Expected `effort` to be an Effort, got {self.effort!r}. Pass `Effort(tries=8)`, say.")
        for name in ("batch_size", "tokens"):
            check_at_least(name, self.options.get(name, NO_TARGETS[name]), 1)
        asked, floor = self.asked, self.options.get("metric_floor")
        if not asked and floor is None:
            raise ValueError(f"Expected a target, one of {[*TARGETS]}, got none.")
        if floor is not None and not (isinstance(floor, Real) and 0 <= floor < math.inf):
            raise ValueError(f"Expected `metric_floor`, the most that the metric may lose, of at least 0, got {floor}.")
        metric = self.options.get("metric")
        if floor is not None and not isinstance(metric, Metric):
            got = "none" if metric is None else type(metric).__name__
            raise ValueError(f"Expected `metric=`, a torchmetrics metric, with `metric_floor`, got {got}.")
        for name, value in asked.items():
            least = 1 if name in RATIOS else 0
            if not (isinstance(value, Real) and least < value < math.inf):
                raise ValueError(f"Expected `{name}` to be a number above {least}, got {value!r}.")
        if self.options.get("latency_table") is not None and not self.needs_latencies:
            got = [*asked] or ["metric_floor"]
            raise ValueError(f"Expected a target of time, one of {[*TIMES]}, with `latency_table`, got {got} alone.")

    @property
    def asked(self) -> dict[str, float]:
        """The targets that are given, by name, a floor of the metric aside."""
        names = (name for name in TARGETS if name != "metric_floor")
        return {name: value for name in names if (value := self.options.get(name)) is not None}  # type: ignore[misc]

    @property
    def settings(self) -> dict[str, Any]:
        """All options, the latency table read from its file."""
        settings = NO_TARGETS | dict(self.options)
        table = settings["latency_table"]
        if isinstance(table, str | os.PathLike):
            settings["latency_table"] = LatencyTable.load(table)
        return settings

    @property
    def has_floor(self) -> bool:
        """Whether a metric may lose so much: that is counted against labels, for which no answers of a model stand."""
        return self.options.get("metric_floor") is not None

    @property
    def needs_latencies(self) -> bool:
        """Whether a target is a time."""
        return any(name in self.asked for name in TIMES)

    @property
    def measures_times(self) -> bool:
        """Whether times have to be measured, which needs a model of which nothing was cut."""
        return self.needs_latencies and self.options.get("latency_table") is None

    def check_processes(self, number: int) -> None:
        """Refuse a floor of the metric where several processes share the search set.

        Raises:
            ValueError: if there are several and a floor.
        """
        if self.has_floor and number > 1:
            raise ValueError(f"Expected one process with `metric_floor`, got {number}. Set `devices=1`.")
