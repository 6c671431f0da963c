"""The places that jobs run in: each with its threads, and a GPU where there is one."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from axformer_lightning.basics import check_at_least


@dataclass(frozen=True)
class Slot:
    """Where one job at a time runs.

    Args:
        threads: that it computes with.
        device: the GPU that it sees, as in `CUDA_VISIBLE_DEVICES`; None without GPUs.
    """

    threads: int
    device: str | None = None


def make_slots(jobs: int | None, devices: Sequence[str], cores: int) -> list[Slot]:
    """Return the slots of a machine: GPUs go round, cores are divided.

    Args:
        jobs: how many run at a time; None for one on each GPU, or one without any.
        devices: the GPUs.
        cores: that may be used.

    Raises:
        ValueError: if no job could run.

    Example:
        >>> make_slots(3, ["0", "1"], 8)
        [Slot(threads=2, device='0'), Slot(threads=2, device='1'), Slot(threads=2, device='0')]
        >>> make_slots(None, [], 8)
        [Slot(threads=8, device=None)]
    """
    number = (len(devices) or 1) if jobs is None else jobs
    check_at_least("sweep.jobs", number, 1, " Leave it out for one on each device.")
    threads = max(1, cores // number)
    return [Slot(threads, devices[i % len(devices)] if devices else None) for i in range(number)]


def visible_devices(outside: Mapping[str, str] = os.environ) -> list[str]:
    """Return the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in outside.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if len(named) >= count else [str(index) for index in range(count)]


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
