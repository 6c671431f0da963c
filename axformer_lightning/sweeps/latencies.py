"""The latency of saved models in every engine, beside what their multiply-adds promise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from transformers import PreTrainedModel

from axformer_lightning.costs import count_encoder_parameters, macs_per_sample
from axformer_lightning.costs.measured import uniform_batch
from axformer_lightning.sweeps.engines import ENGINES, put_into, seconds_of_run
from axformer_lightning.sweeps.memory import forget_peak, resident_bytes
from axformer_lightning.timing import times_ms

BUSY = 1.5  # times as long with twice the samples: below this the device has room for more


@dataclass(frozen=True)
class Latency:
    """What one model takes in one engine.

    Args:
        model: its name.
        engine: a key of :data:`~axformer_lightning.sweeps.engines.ENGINES`.
        encoder_parameters: of the transformer layers.
        macs_per_sample: multiply-adds of a sample.
        latency_ms: median milliseconds of a batch, by `batchN`.
        spread_ms: first and third quartile of the rounds.
        memory_bytes: the most memory that reading the model and one batch of the largest size took, beyond what the
            process had before; None where the kernel does not count it.
    """

    model: str
    engine: str
    encoder_parameters: int
    macs_per_sample: int
    latency_ms: dict[str, float]
    spread_ms: dict[str, tuple[float, float]]
    memory_bytes: int | None

    def times_faster(self, than: "Latency") -> dict[str, float]:
        """Return the ratio of medians, by `batchN`."""
        return {batch: than.latency_ms[batch] / ms for batch, ms in self.latency_ms.items()}

    def realised(self, dense: "Latency") -> dict[str, float]:
        """Return the share of the ideal speed-up, that of the multiply-adds, which the engine makes true.

        Args:
            dense: the model to compare with, in the same engine.
        """
        ideal = dense.macs_per_sample / self.macs_per_sample
        return {batch: faster / ideal for batch, faster in self.times_faster(dense).items()}


@dataclass(frozen=True)
class Latencies:
    """What all models take in all engines.

    Args:
        rows: engine by engine, in each the models as they were given.
        twice: by engine and `batchN`, how many times as long the first model takes for twice the samples.
    """

    rows: list[Latency]
    twice: dict[str, dict[str, float]]

    def idle(self) -> list[tuple[str, str, float]]:
        """Return engine, `batchN` and factor where twice the samples take less than 1.5 times as long."""
        return [
            (engine, batch, factor)
            for engine, factors in self.twice.items()
            for batch, factor in factors.items()
            if factor < BUSY
        ]


def compare_latencies(
    models: Mapping[str, PreTrainedModel],
    directory: Path,
    *,
    engines: Sequence[str] = ("PyTorch float",),
    batch_sizes: Sequence[int] = (1, 32),
    length: int = 128,
    rounds: int = 7,
    seconds: float = 20.0,
) -> Latencies:
    """Time models in engines; at each batch size all of them take turns.

    Args:
        models: by name, in float32.
        directory: where files are written.
        engines: keys of :data:`~axformer_lightning.sweeps.engines.ENGINES`; in int8, a model whose plan says nothing
            has all blocks and the embeddings in it.
        batch_sizes: samples in a batch.
        length: tokens of a sample.
        rounds: how often each is timed, after a warm-up.
        seconds: after so many no further round begins, but at least three are taken.

    Raises:
        ValueError: if a model is not float32 or cannot read so many tokens, or a batch size is less than one.
    """
    for name, model in models.items():
        if model.dtype != torch.float32:
            raise ValueError(f"Expected float32 weights in {name!r}, got {model.dtype}. Call `model.float()` first.")
    macs = {name: macs_per_sample(model, length) for name, model in models.items()}
    first = next(iter(models))
    batches = {n: uniform_batch(models[first], n, length) for size in batch_sizes for n in (size, 2 * size)}
    runs: dict[tuple[str, str], Any] = {}
    memory = {}
    for engine in engines:
        for name, model in models.items():
            counts, before = forget_peak(), resident_bytes()
            where = directory / f"{len(runs)}"
            runs[engine, name], _ = put_into(ENGINES[engine], model, where, threads=torch.get_num_threads(), int8=True)
            runs[engine, name](batches[max(batch_sizes)])
            peak = resident_bytes(peak=True)
            memory[engine, name] = peak - before if counts and peak is not None and before is not None else None
    options: Any = {"rounds": rounds, "seconds": seconds, "timer": seconds_of_run}
    times: dict[int, dict[tuple[str, str], list[float]]] = {}
    twice: dict[str, dict[str, float]] = {engine: {} for engine in engines}
    for size in batch_sizes:
        times[size] = times_ms(runs, batches[size], **options)
        firsts = {engine: runs[engine, first] for engine in engines}
        for engine, doubled in times_ms(firsts, batches[2 * size], **options).items():
            twice[engine][f"batch{size}"] = median(doubled) / median(times[size][engine, first])
    rows = [
        Latency(
            name,
            engine,
            count_encoder_parameters(models[name]),
            macs[name],
            {f"batch{size}": median(times[size][engine, name]) for size in batch_sizes},
            {f"batch{size}": _quartiles(times[size][engine, name]) for size in batch_sizes},
            memory[engine, name],
        )
        for engine, name in runs
    ]
    return Latencies(rows, twice)


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return low, high
