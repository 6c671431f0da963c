"""What a cut does to a model: how its answers change, and its loss.

A fine-tuned classifier is too sure of itself, and a cut that merely makes it less sure lowers the loss without making
one prediction better. And some hundred labels say little of what a cut does to other texts: a change is of either sign,
and what chance brings is chosen. The answers of the model before the cut say it with less noise, whatever the label is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Damage:
    """What a cut does to a model, on the search set.

    Args:
        loss: the mean loss, less that of the model as it is.
        divergence: of a model that chooses (classes, spans, labels), the mean Kullback-Leibler divergence of its
            answers from those of the model as the search began, less that of the model as it is; else ``loss``.
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
