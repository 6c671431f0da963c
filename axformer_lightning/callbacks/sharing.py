"""A search set that several processes share."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import lightning as L
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor
from torch.utils.data import DistributedSampler

from axformer_lightning.basics.untouched import random_state
from axformer_lightning.replay import Ranks

logger = logging.getLogger("axformer_lightning.callbacks")
logger.addFilter(lambda record: getattr(rank_zero_only, "rank", 0) == 0)  # one process speaks for all


def ranks_of(trainer: L.Trainer) -> Ranks:
    """Return the processes of a trainer, as this one of them sees them."""
    return Ranks(trainer.global_rank, trainer.world_size, trainer.strategy.root_device)


@contextmanager
def undivided(loaders: Iterable[Any]) -> Iterator[list[bool]]:
    """Let this process read all samples of loaders that a `DistributedSampler` divides among the processes.

    So each process sees what a single one would, without the samples that such a sampler repeats to divide evenly.

    Args:
        loaders: dataloaders, or anything else that yields batches.

    Yields:
        For each loader whether it is one of those.

    Example:
        >>> loader = torch.utils.data.DataLoader(range(3), sampler=DistributedSampler(range(3), 2, 0, shuffle=False))
        >>> with undivided([loader]) as was_divided:
        ...     was_divided, [batch.tolist() for batch in loader]
        ([True], [[0], [1], [2]])
        >>> [batch.tolist() for batch in loader]
        [[0], [2]]
    """
    samplers = [_distributed_sampler(loader) for loader in loaders]
    with ExitStack() as undo:
        for sampler in samplers:
            if sampler is not None:
                undo.callback(vars(sampler).update, dict(vars(sampler)))
                sampler.num_replicas, sampler.rank, sampler.drop_last = 1, 0, False
                sampler.num_samples = sampler.total_size = len(sampler.dataset)  # type: ignore[arg-type]
        yield [sampler is not None for sampler in samplers]


@contextmanager
def undrawn(loaders: Iterable[Any]) -> Iterator[None]:
    """Let nothing be drawn from the random generators of loaders, which those of training may share.

    Args:
        loaders: dataloaders, or anything else that yields batches.

    Example:
        >>> loader = torch.utils.data.DataLoader(range(9), 3, shuffle=True, generator=torch.Generator())
        >>> with undrawn([loader]):
        ...     first = [batch.tolist() for batch in loader]
        >>> first == [batch.tolist() for batch in loader]
        True
    """
    with ExitStack() as undo:
        for loader in loaders:
            for holder in (loader, *_samplers(loader)):
                for value in getattr(holder, "__dict__", {}).values():
                    if (restore := random_state(value)) is not None:
                        undo.callback(restore)
        yield


def read_alike(batches: Iterable[Any], ranks: Ranks) -> bool:
    """Tell whether every process has read the same batches, so that they can be dealt out.

    Processes whose user gave each its own part have not, nor have those that shuffle each in its own way: there every
    process scores what it has read.
    """
    return ranks.size == 1 or ranks.agree(part for batch in batches for part in _contents(batch))


def _contents(batch: Any) -> list[bytes]:
    """Return the bytes of every tensor in a batch, with their shapes."""
    found: list[bytes] = []

    def note(tensor: Tensor) -> Tensor:
        flat = tensor.detach().cpu().contiguous().flatten()
        found.extend([repr(tuple(tensor.shape)).encode(), flat.view(torch.uint8).numpy().tobytes()])
        return tensor

    apply_to_collection(batch, Tensor, note)
    return found


def _distributed_sampler(loader: Any) -> "DistributedSampler[Any] | None":
    return next((sampler for sampler in _samplers(loader) if isinstance(sampler, DistributedSampler)), None)


def _samplers(loader: Any) -> list[Any]:
    of_batches = getattr(loader, "batch_sampler", None)
    return [getattr(loader, "sampler", None), getattr(of_batches, "sampler", None), of_batches]
