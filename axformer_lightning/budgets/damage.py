"""What a cut does to a model: how its loss and its logits change.

A fine-tuned classifier is too sure of itself, and a cut that merely makes it less sure lowers the loss without making
one prediction better. So losses are compared at the temperature that calibrates the model before the cut.

Shape suffixes: ``N`` samples, ``L`` labels, ``T`` tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from axformer_lightning.criteria import fit_temperature
from axformer_lightning.replay import ALONE, Ranks
from axformer_lightning.scoring import Scored


@dataclass(frozen=True)
class Damage:
    """What a cut does to a model, on the search set.

    Args:
        loss: the mean loss, less that of the model as it is.
        calibrated: the same with both at the temperature that calibrates the model as it is.
        error: standard error of ``calibrated`` over samples.
        divergence: from the outputs of the dense model: the mean Kullback-Leibler divergence, or for numbers the
            squared error; None where a module scores its batches itself.
        samples: how many were measured; not all where the pass was stopped early.
    """

    loss: float
    calibrated: float
    error: float
    divergence: float | None
    samples: int

    @property
    def is_finite(self) -> bool:
        """Whether it is a number."""
        return math.isfinite(self.calibrated) and math.isfinite(self.divergence or 0.0)


@dataclass(frozen=True)
class Sums:
    """Sums over samples, of which a :class:`Damage` is made."""

    samples: float = 0.0
    loss: float = 0.0
    calibrated: float = 0.0
    squares: float = 0.0
    divergence: float = 0.0

    def plus(self, others: Sequence[Sequence[float]]) -> "Sums":
        """Return the sums with those of every process added."""
        return Sums(*(sum(values) for values in zip(self.values(), *others, strict=True)))

    def damage(self, has_logits: bool) -> Damage:
        """Return the means."""
        n = max(1.0, self.samples)
        mean = self.calibrated / n
        variance = max(0.0, self.squares / n - mean**2)
        divergence = self.divergence / n if has_logits else None
        return Damage(self.loss / n, mean, math.sqrt(variance / n), divergence, int(self.samples))

    def values(self) -> tuple[float, ...]:
        """Return all of them."""
        return self.samples, self.loss, self.calibrated, self.squares, self.divergence


def temperature_of(results: Sequence[Scored], ranks: Ranks = ALONE) -> float:
    """Return the temperature that calibrates a classifier; 1 where losses are not cross-entropies of classes.

    Of several processes the mean over their samples.

    Args:
        results: what batches came to.
        ranks: the processes that share the search set.

    Example:
        >>> from axformer_lightning.scoring import score_logits
        >>> logits, labels = torch.tensor([[2.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])  # right 3 times in 4
        >>> scored = score_logits(logits, {"labels": labels})
        >>> round(temperature_of([scored]), 4)
        1.8205
        >>> calibrated(scored, 1.8205)[0]  # -log(3 / 4)
        tensor(0.2877)
    """
    ours = bool(results) and all(map(_is_of_classes, results))
    own = (0.0, 0.0)
    if ours:
        logits_NL = torch.cat([logits_of(scored) for scored in results])
        fitted = fit_temperature(logits_NL.float(), torch.cat([scored.target for scored in results]))
        own = fitted * len(logits_NL), float(len(logits_NL))
    every = ranks.gather([*own, float(bool(results) and not ours)])
    total, samples, others = (sum(values) for values in zip(*every, strict=True))
    return total / samples if samples and not others else 1.0


def calibrated(scored: Scored, temperature: float) -> Tensor:
    """Return the loss of each sample with the logits divided by a temperature, shape ``(N,)``."""
    if temperature == 1:
        return scored.loss_N
    return functional.cross_entropy(logits_of(scored).float() / temperature, scored.target, reduction="none")


def _is_of_classes(scored: Scored) -> bool:
    """Tell whether the losses of a batch are the cross-entropies of its logits."""
    logits, target = logits_of(scored), scored.target
    if not (isinstance(logits, Tensor) and logits.dim() == 2 and logits.shape[1] > 1 and logits.isfinite().all()):
        return False
    if target.shape != scored.loss_N.shape or target.shape != logits.shape[:1] or target.is_floating_point():
        return False
    losses_N = functional.cross_entropy(logits.float(), target, reduction="none")
    return torch.allclose(losses_N, scored.loss_N.float(), rtol=1e-3, atol=1e-3)


def divergence(logits: Any, dense: Any) -> float:
    """Return how far outputs are from those of the dense model: a mean over samples.

    For classes the Kullback-Leibler divergence from the dense model's distribution, for one number the squared error;
    for start and end the mean of both.

    Args:
        logits: shape ``(N, L)`` or ``(N, T, L)``, or a pair of ``(N, T)``.
        dense: likewise.

    Example:
        >>> divergence(torch.zeros(2, 3), torch.zeros(2, 3)), divergence(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
        (0.0, 4.0)
    """
    if isinstance(logits, tuple | list):
        return sum(divergence(mine, theirs) for mine, theirs in zip(logits, dense, strict=True)) / len(logits)
    logits, dense = logits.double(), dense.double()
    if logits.dim() == 1 or logits.shape[-1] == 1:
        return float((logits - dense).square().mean())
    log_probs, targets = functional.log_softmax(logits, -1), functional.log_softmax(dense, -1)
    apart: Tensor = functional.kl_div(log_probs, targets, reduction="none", log_target=True).sum(-1)
    return float(apart.mean())


def logits_of(scored: Scored) -> Any:
    """Return the logits, or None where a module scores its batches itself."""
    return getattr(scored, "logits", None)
