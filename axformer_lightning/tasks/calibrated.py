"""The loss of a classifier that knows how sure it may be."""

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from axformer_lightning.criteria import fit_temperature


class CalibratedLoss(Metric):
    """Mean cross-entropy at the temperature that calibrates these very logits.

    Training makes a classifier surer than it may be, so losses of models that were trained differently long compare
    confidence, not decisions (arXiv 1706.04599). Devices share their samples, so all of them get the same number.

    Example:
        >>> loss = CalibratedLoss()
        >>> sure, doubtful = torch.tensor([[9.0, 0.0]] * 4), torch.tensor([[1.0, 0.0]] * 4)  # right 3 times in 4
        >>> round(float(loss(sure, torch.tensor([0, 0, 0, 1]))), 4)
        0.5623
        >>> round(float(loss(doubtful, torch.tensor([0, 0, 0, 1]))), 4)
        0.5623
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    logits: list[Tensor]
    target: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("logits", default=[], dist_reduce_fx="cat")
        self.add_state("target", default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add samples: logits of shape (N, C), and their classes."""
        self.logits.append(logits.float())
        self.target.append(target)

    def compute(self) -> Tensor:
        """Return the loss of all samples; not a number if a logit is none."""
        logits_NC, target_N = dim_zero_cat(self.logits), dim_zero_cat(self.target)
        if not logits_NC.isfinite().all():
            return torch.tensor(torch.nan, device=logits_NC.device)
        return functional.cross_entropy(logits_NC / fit_temperature(logits_NC, target_N), target_N)
