"""The order of training samples in which those of a batch are about equally long."""

from collections.abc import Iterator

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler


class LengthGroups(LengthGroupedSampler):
    """Samples in an order of which every ``batch_size`` are about equally long, and the batches are in random order.

    The batches of the class that this extends go from long to short, over and over: where labels go with lengths, as in
    STS-B, whose short texts are captions, training then ends on one kind of samples (docs/budgets.md).

    Example:
        >>> order = list(LengthGroups(2, lengths=[5, 1, 5, 1, 3], generator=torch.Generator().manual_seed(0)))
        >>> sorted(order)
        [0, 1, 2, 3, 4]
    """

    def __iter__(self) -> Iterator[int]:
        order = torch.tensor([*super().__iter__()], dtype=torch.long)  # type: ignore[no-untyped-call]
        whole = len(order) // self.batch_size * self.batch_size
        batches = order[:whole].view(-1, self.batch_size)
        shuffled = batches[torch.randperm(len(batches), generator=self.generator)]
        return iter([*shuffled.flatten().tolist(), *order[whole:].tolist()])
