"""How much a teacher says, as settings."""

import math
from dataclasses import dataclass

from axformer_lightning.basics import check_types


@dataclass(frozen=True)
class Distillation:
    """How a teacher takes part in the loss.

    Args:
        temperature: by which the logits of both are divided where the task is a choice; above 1 the teacher also says
            how wrong the wrong answers are.
        alpha: the share of the teacher's logits in the loss, from 0 to 1; the labels have the rest.
        hidden: weight of the hidden states, which is added; 0 leaves them out. They need a teacher of the same family
            and width.

    Raises:
        ValueError: if a setting is out of range.

    Example:
        >>> Distillation(alpha=2)
        Traceback (most recent call last):
        ValueError: Expected `alpha` in [0, 1], the share of the teacher in the loss, got 2.
    """

    temperature: float = 2.0
    alpha: float = 0.9
    hidden: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"Expected `temperature` to be a number above 0, got {self.temperature}.")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"Expected `alpha` in [0, 1], the share of the teacher in the loss, got {self.alpha}.")
        if not 0 <= self.hidden < math.inf:
            raise ValueError(
                f"Expected `hidden` to be at least 0, where 0 leaves hidden states out, got {self.hidden}."
            )
        if self.alpha == self.hidden == 0:
            raise ValueError("Expected a teacher with a say in the loss, got `alpha` and `hidden` of 0. Raise one.")
