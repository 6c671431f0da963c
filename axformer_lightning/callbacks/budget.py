"""Going down to a budget as a callback."""

from typing_extensions import Unpack

from axformer_lightning.budgets import NO_TARGETS, Budget, Effort, TargetOptions
from axformer_lightning.callbacks.agreement import SCHEDULE, Schedule
from axformer_lightning.callbacks.base import SearchCallback
from axformer_lightning.search import spelled_out


class ShrinkOptions(TargetOptions, Schedule, total=False):
    """What a smaller model has to reach, and when it is made smaller."""


@spelled_out(ShrinkOptions, NO_TARGETS | SCHEDULE | {"retrain": "continue"})
class ShrinkCallback(SearchCallback):
    """Make the model as much smaller or faster as asked for, repair what is left, and let training go on.

    Runs after the end of a validation epoch, once its checkpoints are written, and mutates the LightningModule: weights
    get smaller, optimizers and schedulers follow. Ratios are to the model as it then is. The samples that decide need
    labels only where those of :func:`~axformer_lightning.shrink` do, or where another callback searches by them, too.

    Args:
        table_samples: samples by which single widths are measured.
        tries: swaps that are measured in each slice.
        bf16: whether candidates are measured under autocast to bfloat16 where that is faster on this machine.
        options: see :class:`~axformer_lightning.callbacks.budget.ShrinkOptions`.

    Raises:
        ValueError: if no target is given, or an argument is out of range.

    Example:
        >>> ShrinkCallback(encoder_size_ratio=2.0).settings.asked
        {'encoder_size_ratio': 2.0}
        >>> ShrinkCallback()
        Traceback (most recent call last):
        ValueError: Expected a target, one of ['encoder_size_ratio', 'file_size_ratio', ...
    """

    def __init__(
        self,
        *,
        table_samples: int = Effort.table_samples,
        tries: int = Effort.tries,
        bf16: bool = Effort.bf16,
        **options: Unpack[ShrinkOptions],
    ) -> None:
        targets: TargetOptions = {name: value for name, value in options.items() if name in NO_TARGETS}  # type: ignore[assignment]
        others = {name: value for name, value in options.items() if name not in NO_TARGETS}
        super().__init__(Budget(targets, Effort(table_samples, tries, bf16)), others)
