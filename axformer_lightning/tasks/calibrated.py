"""The loss of a model that knows how sure it may be, or on which scale to answer."""

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from axformer_lightning.criteria import fit_temperature


class CalibratedLoss(Metric):
    """Mean loss of logits at the temperature, or of numbers on the scale, that is best for these very samples.

    Training makes a classifier surer than it may be, so losses of models that were trained differently long compare
    confidence, not decisions (arXiv 1706.04599). Numbers may likewise be too spread or too high without being less
    correlated: of them it is the mean squared error after the best scale (not negative) and shift. Devices share their
    samples, so all of them get the same number.

    Example:
        >>> loss = CalibratedLoss()
        >>> sure, doubtful = torch.tensor([[9.0, 0.0]] * 4), torch.tensor([[1.0, 0.0]] * 4)  # right 3 times in 4
        >>> round(float(loss(sure, torch.tensor([0, 0, 0, 1]))), 4)
        0.5623
        >>> round(float(loss(doubtful, torch.tensor([0, 0, 0, 1]))), 4)
        0.5623
        >>> float(CalibratedLoss()(torch.tensor([5.0, 7.0, 9.0]), torch.tensor([0.0, 1.0, 2.0])))
        0.0
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
        """Add samples: logits of shape (N, C) and their classes, or N numbers and what they should be."""
        self.logits.append(logits.float() if target.dtype == torch.long else logits.float().flatten())
        self.target.append(target)

    def compute(self) -> Tensor:
        """Return the loss of all samples; not a number if an output is none."""
        logits, target = dim_zero_cat(self.logits), dim_zero_cat(self.target)
        if not logits.isfinite().all():
            return torch.tensor(torch.nan, device=logits.device)
        if target.dtype == torch.long:
            return functional.cross_entropy(logits / fit_temperature(logits, target), target)
        return _squared_error(logits.double(), target.double()).float()


def _squared_error(numbers_N: Tensor, target_N: Tensor) -> Tensor:
    """Return the mean squared error that is left after least squares with a slope of at least 0."""
    off_N, target_N = numbers_N - numbers_N.mean(), target_N - target_N.mean()
    spread = (off_N**2).sum()
    slope = ((off_N * target_N).sum() / spread).clamp(min=0) if spread > 0 else spread
    return ((slope * off_N - target_N) ** 2).mean()
