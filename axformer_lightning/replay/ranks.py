"""How the processes that share a search exchange numbers; no other file does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from axformer_lightning.basics import digest_of

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """The processes that share a search, as seen by one of them; by default it is the only one.

    Every process has to make the same calls in the same order, or all wait forever.

    Args:
        rank: number of this process.
        size: number of processes; `torch.distributed` is initialized if there are several.
        device: the device that tensors are sent from.

    Example:
        >>> Ranks().gather([1.0, 2.0])
        [[1.0, 2.0]]
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Return the ``values`` of every process, by rank: the same bits everywhere, so all processes decide alike."""
        if self.size == 1:
            return [list(values)]
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        everyones = [torch.empty_like(mine) for _ in range(self.size)]
        distributed.all_gather(everyones, mine)
        return [theirs.tolist() for theirs in everyones]

    def total(self, sums: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, added in the order of the ranks: the same bits everywhere.

        Example:
            >>> Ranks().total(torch.tensor([1.0, 2.0]))
            tensor([1., 2.])
        """
        if self.size == 1:
            return sums
        mine = sums.to(self.device)
        everyones = [torch.empty_like(mine) for _ in range(self.size)]
        distributed.all_gather(everyones, mine)
        return sum(everyones[1:], start=everyones[0]).to(sums.device)

    def agree(self, parts: Iterable[bytes]) -> bool:
        """Tell whether every process holds the same bytes.

        Example:
            >>> Ranks().agree([b"mine"])
            True
        """
        everyones = self.gather([float(byte) for byte in digest_of(parts)])
        return all(other == everyones[0] for other in everyones)


ALONE = Ranks()
