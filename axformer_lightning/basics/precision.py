"""Whether computing in bfloat16 pays on this machine, which only a measurement tells."""

import functools
import logging
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)
PAYS_FROM = 1.5  # times as fast, of what is most but not all of the work
SECONDS = 0.3  # of timing each
SHAPE = (1024, 384, 1536)  # tokens, features in, features out: a feed-forward block of a MiniLM


def bf16_pays(device: torch.device, *, trains: bool = False) -> bool:
    """Tell whether linear layers run faster under autocast to bfloat16 on ``device``; measured once, and logged.

    CPUs without bfloat16 units compute it by float32 or worse, several times slower than float32 itself, and a CPU's
    flags do not tell which of its units torch uses.

    Args:
        device: where models run.
        trains: whether gradients are computed, too.

    Example:
        >>> bf16_pays(torch.device("cpu")) in (True, False)
        True
    """
    gain = bf16_gain(device.type, trains)
    pays = gain >= PAYS_FROM
    what = "training" if trains else "inference"
    logger.info("bfloat16 is %.2g times as fast as float32 in %s here: %s.", gain, what, "on" if pays else "off")
    return pays


@functools.cache
def bf16_gain(device: str, trains: bool = False) -> float:
    """Return how many times as fast a linear layer is under autocast to bfloat16.

    Args:
        device: type of the device.
        trains: whether gradients are computed, too.
    """
    with torch.random.fork_rng(), torch.inference_mode(False):
        tokens, features_in, features_out = SHAPE
        linear = nn.Linear(features_in, features_out).to(device)
        x_TC = torch.ones(tokens, features_in, device=device)

        def step() -> None:
            with torch.set_grad_enabled(trains):
                y_TC: Tensor = linear(x_TC)
                if trains:
                    y_TC.sum().backward()

        def in_bf16() -> None:
            with torch.autocast(device, torch.bfloat16):
                step()

        times = {run: _seconds(run, device) for run in (step, in_bf16)}
    return times[step] / times[in_bf16]


def _seconds(run: Callable[[], None], device: str) -> float:
    """Return the shortest time of one call, of as many as fit.

    On a CPU that is time of the processor: others who use it, too, must not decide.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    run()
    shortest, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = clock()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        shortest = min(shortest, clock() - start)
    return shortest
