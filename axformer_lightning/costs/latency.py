"""How long a forward pass takes on this machine."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median

import torch
from torch.utils.benchmark import Timer
from transformers import PreTrainedModel

from axformer_lightning.basics import eval_mode
from axformer_lightning.costs.measured import uniform_batch

MIN_ROUNDS = 3  # also of passes that last longer than they would have to
ROUNDS = 20  # of passes that are shorter: several are timed in each


def latencies_ms(
    models: Mapping[str, PreTrainedModel],
    *,
    length: int,
    batch_sizes: Sequence[int] = (1, 32),
    min_seconds: float = 1.0,
) -> dict[str, dict[str, float]]:
    """Return the median milliseconds of a forward pass of each model, measured in turns.

    The models take turns (A, B, A, B, ...), so that a machine that slows down meanwhile slows down all of them.
    Each runs as it would in use: on its own device, with its own attention implementation and all threads, after
    a warm-up in every turn. Short passes are timed several at a time. Weights are float32, lest a model be
    compared with another by its precision.

    Args:
        models: the models to compare, by name.
        length: tokens of each sample.
        batch_sizes: samples read at once, each measured on its own.
        min_seconds: how long each model is timed with each batch size, warm-ups not counted; at least three turns
            are taken.

    Returns:
        For each name the milliseconds by batch size, as ``{"batch1": ..., "batch32": ...}``.

    Raises:
        ValueError: if a model is not float32 or cannot read so many tokens, or a batch size is less than one.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> measured = latencies_ms({"dense": BertModel(config)}, length=4, batch_sizes=(1,), min_seconds=0.001)
        >>> measured
        {'dense': {'batch1': ...}}
    """
    for name, model in models.items():
        if model.dtype != torch.float32:
            raise ValueError(f"Expected float32 weights in {name!r}, got {model.dtype}. Call `model.float()` first.")
    timers = {
        batch_size: {name: _timer(model, batch_size, length) for name, model in models.items()}
        for batch_size in batch_sizes
    }
    with ExitStack() as undo:
        for model in models.values():
            undo.enter_context(eval_mode(model))
        undo.enter_context(torch.inference_mode())
        medians = {size: _medians(by_name, min_seconds) for size, by_name in timers.items()}
    return {name: {f"batch{size}": medians[size][name] * 1000 for size in batch_sizes} for name in models}


def _timer(model: PreTrainedModel, batch_size: int, length: int) -> Timer:
    return Timer(
        "model(**batch)",
        globals={"model": model, "batch": uniform_batch(model, batch_size, length)},
        num_threads=torch.get_num_threads(),
    )


def _medians(timers: Mapping[str, Timer], min_seconds: float) -> dict[str, float]:
    """Return the median seconds of a pass of each, timed in turns. `Timer.timeit` warms up and waits for the device."""
    numbers = {name: max(1, round(min_seconds / ROUNDS / timer.timeit(1).median)) for name, timer in timers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    while any(len(turns) < MIN_ROUNDS or sum(turns) * numbers[name] < min_seconds for name, turns in seconds.items()):
        for name, timer in timers.items():
            seconds[name].append(timer.timeit(numbers[name]).median)
    return {name: median(turns) for name, turns in seconds.items()}
