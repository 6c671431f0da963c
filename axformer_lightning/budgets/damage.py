"""What a cut does to a model: how its answers change, and its loss.

A fine-tuned classifier is too sure of itself, and a cut that merely makes it less sure lowers the loss without making
one prediction better. And some hundred labels say little of what a cut does to other texts: a change is of either sign,
and what chance brings is chosen. The answers of the model before the cut say it with less noise, whatever the label is.

Shape suffixes: ``N`` samples, ``L`` labels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from axformer_lightning.replay import ALONE, Ranks
from axformer_lightning.scoring import Scored

Answers = Sequence[Tensor] | None  # of each batch, or of nothing that gives any


@dataclass(frozen=True)
class Damage:
    """What a cut does to a model, on the search set.

    Args:
        loss: the mean loss, less that of the model as it is.
        divergence: of a classifier, the mean Kullback-Leibler divergence of its answers from those of the model as the
            search began, less that of the model as it is; else ``loss``.
        error: standard error of ``divergence`` over samples.
        samples: how many were measured; not all where the pass was stopped early.
    """

    loss: float
    divergence: float
    error: float
    samples: int

    @property
    def is_finite(self) -> bool:
        """Whether both are numbers, as they are unless a cut model gives losses that are none."""
        return math.isfinite(self.loss) and math.isfinite(self.divergence)


@dataclass(frozen=True)
class Sums:
    """Sums over samples, of which a :class:`Damage` is made."""

    samples: float = 0.0
    loss: float = 0.0
    divergence: float = 0.0
    squares: float = 0.0

    def plus(self, others: Sequence[Sequence[float]]) -> "Sums":
        """Return the sums with those of every process added."""
        return Sums(*(sum(values) for values in zip(self.values(), *others, strict=True)))

    def damage(self) -> Damage:
        """Return the means."""
        n = max(1.0, self.samples)
        mean = self.divergence / n
        variance = max(0.0, self.squares / n - mean**2)
        return Damage(self.loss / n, mean, math.sqrt(variance / n), int(self.samples))

    def values(self) -> tuple[float, ...]:
        """Return all of them."""
        return self.samples, self.loss, self.divergence, self.squares


def answers_of(results: Sequence[Scored], ranks: Ranks = ALONE) -> Answers:
    """Return the probabilities that a classifier gives its classes, one tensor ``(N, L)`` for each batch.

    Args:
        results: what batches came to.
        ranks: the processes that share the search set.

    Returns:
        Of anything but a classifier, in any of the processes, nothing.

    Example:
        >>> from axformer_lightning.scoring import score_logits
        >>> answers_of([score_logits(torch.zeros(1, 2), {"labels": torch.tensor([1])})])
        [tensor([[0.5000, 0.5000]])]
    """
    ours = all(_is_of_classes(scored) for scored in results if len(scored.loss_N))  # a batch may have no label at all
    if not all(ours for (ours,) in ranks.gather([float(ours)])):
        return None
    return [logits_of(scored).float().softmax(-1) for scored in results]


def divergence_of(scored: Scored, answers_NL: Tensor) -> Tensor:
    """Return how far the answers of a classifier are from others, for each sample, shape ``(N,)``.

    Source: the Kullback-Leibler divergence, as a teacher's answers are learned from (arXiv 1503.02531).

    Example:
        >>> from axformer_lightning.scoring import score_logits
        >>> scored = score_logits(torch.tensor([[1.0, 0.0]]), {"labels": torch.tensor([1])})
        >>> divergence_of(scored, answers_of([scored])[0]), divergence_of(scored, torch.tensor([[0.5, 0.5]]))
        (tensor([0.]), tensor([0.1201]))
    """
    own_NL = functional.log_softmax(logits_of(scored).float(), -1)
    return functional.kl_div(own_NL, answers_NL, reduction="none").sum(-1)


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
