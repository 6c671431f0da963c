"""The metric used in addition to the loss if the user names none."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class LabelAccuracy(Metric):
    """Share of the predicted labels that are right: classes, several labels, tokens, or the ends of spans.

    Predictions that are not labels (numbers, texts) are neither right nor wrong, and the share stays 0.

    Example:
        >>> accuracy = LabelAccuracy()
        >>> accuracy(torch.tensor([1, 0, 2]), torch.tensor([1, 1, 2]))
        tensor(0.6667)
        >>> accuracy(torch.tensor([0.5]), torch.tensor([0.5]))
        tensor(0.)
    """

    higher_is_better = True
    full_state_update = False
    num_right: Tensor
    num_labels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("num_right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("num_labels", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Any, target: Any) -> None:
        """Count the labels of a batch."""
        if not (_are_labels(preds) and _are_labels(target) and preds.shape == target.shape):
            return
        self.num_right += (preds == target).sum()
        self.num_labels += target.numel()

    def compute(self) -> Tensor:
        """Return the share."""
        return self.num_right / self.num_labels.clamp(min=1)


def _are_labels(values: Any) -> bool:
    return isinstance(values, Tensor) and not values.is_floating_point()
