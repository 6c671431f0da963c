"""TIME: measure how long the blocks of a model take on this machine, by how many units they have left.

A block that is timed by itself has its weights in cache, and pays otherwise for being called, than one inside a model.
So whole models are timed in which several layers have the one block and nothing else, and what the model without any
block takes is subtracted. Both kinds of blocks together take a little longer than that, as less of the model stays in
cache, so all times are scaled to those of the dense model.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean, median
from time import perf_counter, process_time
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, HardAttention, LayerPlan, anatomy_of, layers_left
from axformer_lightning.basics import check_at_least
from axformer_lightning.costs import Conditions, LatencyTable
from axformer_lightning.costs.latency_table import Rungs
from axformer_lightning.costs.measured import uniform_batch
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_

LAYERS = 6  # of a deeper model no more are timed: the others would add nothing but time
TURN = 0.02  # seconds that a turn takes at least: short passes are timed several at a time
MIN_ROUNDS = 3  # also of passes that take longer than they would have to
GONE = LayerPlan("removed", (), "removed")
REST, DENSE = ("rest", 0), ("dense", 0)

K = TypeVar("K")
Case = tuple[str, int]  # kind and units of the blocks that a model has
Timer = Callable[[PreTrainedModel, Mapping[str, Tensor]], float]  # the seconds of one pass


def seconds_of(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> float:
    """Run ``model`` once and return the seconds that it took, on whatever device.

    On one thread of a CPU it is the time that the process has computed, which others who use the machine disturb less.
    """
    return seconds_of_call(partial(model, **batch), model.device)


def seconds_of_call(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call keeps a device busy, by the clock of :func:`seconds_of`."""
    clock = process_time if device.type == "cpu" and torch.get_num_threads() == 1 else perf_counter
    _wait_for(device)
    start = clock()
    call()
    _wait_for(device)
    return clock() - start


def medians_ms(
    models: Mapping[K, PreTrainedModel],
    batch: Mapping[str, Tensor],
    *,
    rounds: int = 7,
    seconds: float = 20.0,
    timer: Timer = seconds_of,
) -> dict[K, float]:
    """Return the median milliseconds of a pass of each model, timed in turns as in :func:`times_ms`.

    Example:
        >>> medians_ms({"dense": None, "cut": None}, {}, timer=lambda model, batch: 0.25)
        {'dense': 250.0, 'cut': 250.0}
    """
    times = times_ms(models, batch, rounds=rounds, seconds=seconds, timer=timer)
    return {case: median(turns) for case, turns in times.items()}


def times_ms(
    models: Mapping[K, PreTrainedModel],
    batch: Mapping[str, Tensor],
    *,
    rounds: int = 7,
    seconds: float = 20.0,
    timer: Timer = seconds_of,
) -> dict[K, list[float]]:
    """Return the milliseconds of a pass of each model in every round, in which all of them take turns.

    Args:
        models: by whatever tells them apart.
        batch: what they are called with.
        rounds: how often each is timed, after a warm-up.
        seconds: after so many no further round begins, but at least three are taken.
        timer: returns the seconds of one pass.

    Raises:
        ValueError: if there is no round.

    Example:
        >>> times_ms({"dense": None}, {}, rounds=3, timer=lambda model, batch: 0.25)
        {'dense': [250.0, 250.0, 250.0]}
    """
    check_at_least("rounds", rounds, 1)
    numbers: dict[K, int] = {}
    for name, model in models.items():
        first = timer(model, batch)  # a warm-up, and for a long pass warm-up enough
        numbers[name] = 1 if first > 10 * TURN else math.ceil(TURN / timer(model, batch))
    turns: list[dict[K, float]] = []
    spent = 0.0
    while len(turns) < min(rounds, MIN_ROUNDS) or (len(turns) < rounds and spent < seconds):
        turns.append({case: fmean(timer(model, batch) for _ in range(numbers[case])) for case, model in models.items()})
        spent += sum(numbers[case] * turns[-1][case] for case in models)
    # What slows most of the models in a round slows the machine, and is taken out of that round.
    typical = {case: median(turn[case] for turn in turns) for case in models}
    slowness = [median(turn[case] / typical[case] for case in models) for turn in turns]
    return {case: [1000 * turn[case] / slow for turn, slow in zip(turns, slowness, strict=True)] for case in models}


def measure_latency(
    model: PreTrainedModel,
    *,
    batch_size: int = 32,
    tokens: int = 128,
    hard_attention: HardAttention | None = None,
    rounds: int = 7,
    seconds: float = 20.0,
    timer: Timer = seconds_of,
) -> LatencyTable:
    """Measure the milliseconds of each kind of block of ``model``, with none to all of its units.

    Cut copies, which share all other weights with ``model``, take turns, and the median of the rounds is taken. Where
    noise makes a wider block cheaper than a narrower one, both get their mean.

    Args:
        model: a model of which nothing was cut, on the device, in the dtype and with the attention implementation
            that it is to be used with.
        batch_size: samples of a batch.
        tokens: of a sample; a model of images has its own number.
        hard_attention: also measure attention with these settings.
        rounds: how often each copy is timed, after a warm-up.
        seconds: after so many no further round begins, but at least three are taken.
        timer: returns the seconds of one pass.

    Raises:
        ValueError: if the model is cut already, skips tokens by the first-token rule, has shared weights or cannot read
            so many tokens, or `rounds` is 0.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
        >>> table = measure_latency(BertModel(config), batch_size=1, tokens=4, timer=lambda model, batch: 0.001)
        >>> table.predict_ms([LayerPlan()])
        1.0
    """
    conditions, anatomy = Conditions.of(model, batch_size, tokens), anatomy_of(model)
    if layers_left(model) != anatomy.dense_layers():
        raise ValueError("Expected a model to which no plan was applied, got one that is cut. Measure the dense model.")
    cases = _cases(anatomy, hard_attention)
    copies = {case: _cut_copy(model, anatomy, only) for case, only in cases.items()}
    with torch.inference_mode():
        batch = uniform_batch(model, batch_size, tokens)
        ms = medians_ms(copies, batch, rounds=rounds, seconds=seconds, timer=timer)
    return LatencyTable(
        conditions=conditions,
        rest_ms=ms[REST],
        blocks=_blocks(ms, _num_timed(anatomy)),
        hard_attention_k=None if hard_attention is None else hard_attention.k,
    )


def _cases(anatomy: Anatomy, hard: HardAttention | None) -> dict[Case, LayerPlan]:
    """Return what is left of the layers in each model that is timed."""
    heads, neurons = anatomy.num_heads, anatomy.intermediate_size
    soft = {n: replace(GONE, attention="kept", heads_removed=tuple(range(n, heads))) for n in _rungs(heads)}
    cases = {REST: GONE, DENSE: LayerPlan()} | {("attention", n): layer for n, layer in soft.items()}
    if hard is not None:
        cases |= {("hard_attention", n): replace(layer, hard_attention=hard) for n, layer in soft.items()}
    for n in _rungs(neurons):
        removed = ((n, neurons),) if n < neurons else ()
        cases["feed_forward", n] = replace(GONE, feed_forward="kept", neurons_removed=removed)
    return cases


def _blocks(ms: Mapping[Case, float], layers: int) -> dict[str, Rungs]:
    """Return the milliseconds of one block, of what so many layers of them take."""
    raw: dict[str, list[tuple[int, float]]] = {}
    for (kind, units), whole in ms.items():
        if (kind, units) not in (REST, DENSE):
            raw.setdefault(kind, []).append((units, (whole - ms[REST]) / layers))
    blocks = {kind: _never_falling(rungs) for kind, rungs in raw.items()}
    alone = blocks["attention"][-1][1] + blocks["feed_forward"][-1][1]
    together = max(0.0, ms[DENSE] - ms[REST]) / layers
    scale = together / alone if alone and together else 1.0
    return {kind: tuple((units, ms * scale) for units, ms in rungs) for kind, rungs in blocks.items()}


def _rungs(num_units: int) -> list[int]:
    """Return the numbers of units that are measured: few more than the first make up for the step that it is.

    Example:
        >>> _rungs(12), _rungs(1536)
        ([0, 1, 3, 6, 9, 12], [0, 128, 384, 768, 1152, 1536])
    """
    return sorted({0, max(1, num_units // 12), *(num_units * quarter // 4 for quarter in (1, 2, 3, 4))})


def _num_timed(anatomy: Anatomy) -> int:
    return min(anatomy.num_layers, LAYERS)


def _cut_copy(model: PreTrainedModel, anatomy: Anatomy, only: LayerPlan) -> PreTrainedModel:
    """Return a copy of which ``only`` is left of the first layers and nothing of others; what is whole is shared."""
    shared = {id(value): value for value in (*model.parameters(), *model.buffers())}
    timed = _num_timed(anatomy)
    layers = (only,) * timed + (GONE,) * (anatomy.num_layers - timed)
    smaller = apply_plan_(copy.deepcopy(model, shared), replace(Plan.dense(anatomy), layers=layers))
    smaller.eval()
    return smaller


def _never_falling(rungs: Sequence[tuple[int, float]]) -> Rungs:
    """Return the closest times, by least squares, that are not negative and do not fall (pool adjacent violators).

    Example:
        >>> _never_falling([(0, -0.1), (1, 3.0), (2, 2.0), (4, 5.0)])
        ((0, 0.0), (1, 2.5), (2, 2.5), (4, 5.0))
    """
    pools: list[list[float]] = []
    for _, ms in rungs:
        pools.append([max(0.0, ms)])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    times = [fmean(pool) for pool in pools for _ in pool]
    return tuple((units, ms) for (units, _), ms in zip(rungs, times, strict=True))


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
