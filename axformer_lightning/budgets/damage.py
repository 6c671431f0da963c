"""What a cut does to a model: how its loss changes.

A fine-tuned classifier is too sure of itself, and a cut that merely makes it less sure lowers the loss without making
one prediction better. So losses are compared at the temperature that calibrates the model before the cut.

Shape suffixes: ``N`` samples, ``L`` labels.
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
        samples: how many were measured; not all where the pass was stopped early.
    """

    loss: float
    calibrated: float
    error: float
    samples: int

    @property
    def is_finite(self) -> bool:
        """Whether it is a number."""
        return math.isfinite(self.calibrated)


@dataclass(frozen=True)
class Sums:
    """Sums over samples, of which a :class:`Damage` is made."""

    samples: float = 0.0
    loss: float = 0.0
    calibrated: float = 0.0
    squares: float = 0.0

    def plus(self, others: Sequence[Sequence[float]]) -> "Sums":
        """Return the sums with those of every process added."""
        return Sums(*(sum(values) for values in zip(self.values(), *others, strict=True)))

    def damage(self) -> Damage:
        """Return the means."""
        n = max(1.0, self.samples)
        mean = self.calibrated / n
        variance = max(0.0, self.squares / n - mean**2)
        return Damage(self.loss / n, mean, math.sqrt(variance / n), int(self.samples))

    def values(self) -> tuple[float, ...]:
        """Return all of them."""
        return self.samples, self.loss, self.calibrated, self.squares


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
    results = [scored for scored in results if len(scored.loss_N)]  # a batch may have no label at all
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


def logits_of(scored: Scored) -> Any:
    """Return the logits, or None where a module scores its batches itself."""
    return getattr(scored, "logits", None)
