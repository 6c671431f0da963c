"""What hard attention takes: a model with soft layers, and with hard ones by torch's operators and by the kernels."""

import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import fmean, median, quantiles

import torch
from torch import Tensor
from transformers import PreTrainedModel

from axformer_lightning import kernels
from axformer_lightning.anatomy import HardAttention, LayerPlan, anatomy_of
from axformer_lightning.costs.measured import uniform_batch
from axformer_lightning.hard_attention import set_hard_attention_
from axformer_lightning.timing import TURN, Timer, seconds_of, seconds_of_call


@dataclass(frozen=True)
class HardTime:
    """The time of one model on batches of one shape.

    Args:
        batch_size: samples of a batch.
        length: tokens of a sample.
        hard_layers: how many of the layers attend hard, from the last one.
        by_kernel: whether they do so by the kernels.
        ms: median of a pass.
        ratio: to the model without hard layers, median over the rounds.
        low: lower quartile of that ratio.
        high: upper quartile of that ratio.
    """

    batch_size: int
    length: int
    hard_layers: int
    by_kernel: bool
    ms: float
    ratio: float
    low: float
    high: float


def time_hard_attention(
    model: PreTrainedModel,
    shape: tuple[int, int],
    hard_layers: Sequence[int],
    settings: HardAttention,
    *,
    rounds: int = 15,
    seed: int = 0,
    training: bool = False,
    timer: Timer | None = None,
) -> list[HardTime]:
    """Time ``model`` with the last layers hard, by both ways, beside itself without, in turns.

    Args:
        model: with soft attention, which stays as it is.
        shape: samples of a batch, and tokens of a sample; the tokens are random, and none is padding.
        hard_layers: numbers of hard layers.
        settings: of the hard layers.
        rounds: how often each is timed, after a warm-up; short passes several at a time.
        seed: of the tokens.
        training: whether a pass is one of training, with dropout and gradients.
        timer: returns the seconds of one pass; None for :func:`~axformer_lightning.timing.seconds_of`, in training of a
            forward and a backward pass.

    Returns:
        The model without hard layers, and for each number of them torch's operators and the kernel.

    Raises:
        ValueError: if there are fewer layers or positions, or rounds are fewer than two.
    """
    if rounds < 2:
        raise ValueError(f"Expected at least 2 rounds, for a spread, got {rounds}.")
    layers = anatomy_of(model).num_layers
    if not all(1 <= n <= layers for n in hard_layers):
        raise ValueError(f"Expected numbers of hard layers from 1 to {layers}, got {[*hard_layers]}.")
    timer = timer or (_seconds_with_gradients if training else seconds_of)
    cases = [(0, False), *((n, by_kernel) for n in hard_layers for by_kernel in (False, True))]
    models = {n: _with_hard_layers(model, n, settings).train(training) for n in {0, *hard_layers}}
    batch = uniform_batch(model, *shape)
    batch["input_ids"] = torch.randint(
        model.config.vocab_size, batch["input_ids"].shape, generator=torch.Generator().manual_seed(seed)
    ).to(model.device)

    def seconds(case: tuple[int, bool]) -> float:
        with torch.inference_mode(not training), nullcontext() if case[1] else kernels.switched_off():
            return timer(models[case[0]], batch)

    numbers = {case: math.ceil(TURN / max(min(seconds(case), seconds(case)), 1e-9)) for case in cases}
    numbers = {case: min(number, 1000) for case, number in numbers.items()}
    turns = [{case: fmean(seconds(case) for _ in range(numbers[case])) for case in cases} for _ in range(rounds)]
    found = []
    for case in cases:
        ratios = [turn[case] / turn[cases[0]] for turn in turns]
        low, middle, high = quantiles(ratios, n=4, method="inclusive")
        found.append(HardTime(*shape, *case, 1000 * median(turn[case] for turn in turns), middle, low, high))
    return found


def _seconds_with_gradients(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> float:
    def step() -> None:
        model(**batch)[0].sum().backward()  # of what it gives: logits, or what a head would read
        model.zero_grad()

    return seconds_of_call(step, model.device)


def _with_hard_layers(model: PreTrainedModel, number: int, settings: HardAttention) -> PreTrainedModel:
    """Return a copy that shares the weights; the last layers are hard."""
    shared = {id(value): value for value in (*model.parameters(), *model.buffers())}
    hard = copy.deepcopy(model, shared)
    soft = anatomy_of(model).num_layers - number
    set_hard_attention_(hard, [LayerPlan()] * soft + [LayerPlan(hard_attention=settings)] * number)
    return hard
