"""Models by engine and precision: what each is worth on the dev set, weighs on disk, and takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from axformer_lightning.anatomy import layers_left
from axformer_lightning.costs.measured import uniform_batch
from axformer_lightning.rounds import quantize
from axformer_lightning.sweeps.engines import ENGINES, Batch, Run, put_into, seconds_of_run
from axformer_lightning.sweeps.reports import worth
from axformer_lightning.tasks import Task
from axformer_lightning.timing import medians_ms

Shape = tuple[int, int]
LEFT_OUT = "labels"


@dataclass(frozen=True)
class Deployed:
    """One model in one engine.

    Args:
        model: its name.
        engine: a key of :data:`ENGINES`.
        metrics: on the dev set, as this engine computes.
        loss: there.
        size_bytes: of the weights' file.
        ms: median milliseconds of a batch, by `samples x tokens`.
        int8: how many blocks, and the embeddings, are in int8.
    """

    model: str
    engine: str
    metrics: dict[str, float]
    loss: float
    size_bytes: int
    ms: dict[str, float]
    int8: int = 0


def deployed(
    models: Mapping[str, PreTrainedModel],
    task: Task,
    search: Mapping[str, Sequence[Batch]],
    dev: Mapping[str, Sequence[Batch]],
    directory: Path,
    *,
    shapes: Sequence[Shape],
    engines: Sequence[str] = tuple(ENGINES),
    threads: int | None = None,
    rounds: int = 7,
    seconds: float = 20.0,
) -> Iterator[Deployed]:
    """Yield every model in every engine; at each shape all of them take turns.

    Args:
        models: by name, in float32; they stay as they are.
        task: what they do.
        search: batches that decide what is in int8, by name of the model, as each has a tokenizer of its own.
        dev: batches that report, likewise.
        directory: where files are written; those of the same names are replaced.
        shapes: samples and tokens of the batches that are timed.
        engines: keys of :data:`ENGINES`; those that are not installed are left out.
        threads: of ONNX Runtime and OpenVINO; PyTorch has its own setting.
        rounds: how often each is timed at a shape.
        seconds: after so many no further round of a shape begins.
    """
    runs: dict[tuple[str, str], tuple[Run, int, int]] = {}
    chosen = [name for name in engines if ENGINES[name].is_installed]
    for name, model in models.items():
        wanted = {ENGINES[engine].static for engine in chosen if ENGINES[engine].int8}
        rounded = {static: quantize(model, search[name], static=static) for static in wanted}
        for engine in chosen:
            way = ENGINES[engine]
            given = rounded[way.static] if way.int8 else model
            count = sum(len(layer.int8) for layer in layers_left(given)) if way.int8 else 0
            where = directory / f"{name}-{engine}".replace(" ", "-").lower()
            runs[name, engine] = (*put_into(way, given, where, threads=threads), count)
    times: dict[tuple[str, str], dict[str, float]] = {key: {} for key in runs}
    for samples, tokens in shapes:
        batch = uniform_batch(next(iter(models.values())), samples, tokens)
        every: Any = {key: run for key, (run, *_) in runs.items()}
        for key, ms in medians_ms(every, batch, rounds=rounds, seconds=seconds, timer=seconds_of_run).items():
            times[key][f"{samples}x{tokens}"] = ms
    for (name, engine), (run, size, count) in runs.items():
        metrics, loss = _worth(run, task, dev[name], models[name].config.problem_type)
        yield Deployed(name, engine, metrics, loss, size, times[name, engine], count)


def _worth(run: Run, task: Task, dev: Sequence[Batch], problem_type: str | None) -> tuple[dict[str, float], float]:
    logits = torch.cat([run({name: value for name, value in batch.items() if name != LEFT_OUT}) for batch in dev])
    return worth(logits, torch.cat([batch[LEFT_OUT] for batch in dev]), task, problem_type)
