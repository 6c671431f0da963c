"""Selective hard attention as a callback."""

from typing_extensions import Unpack

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.callbacks.agreement import SCHEDULE, SHARED, CallbackOptions
from axformer_lightning.callbacks.base import SearchCallback
from axformer_lightning.search import spelled_out


@spelled_out(CallbackOptions, dict.fromkeys(SHARED) | SCHEDULE)
class HardAttentionCallback(SearchCallback):
    """Find the layers that do better with hard attention, and switch it on there.

    Runs after the end of a validation epoch, once its checkpoints are written. Beside an
    :class:`AccuracyDrivenPruningCallback` hard attention goes first, both share one plan and one round, and an
    option left out here is as it is there.

    Args:
        k: keys that a hard query keeps.
        renormalize: whether the kept weights are scaled to sum to one; the reference form does not.
        options: see :class:`~axformer_lightning.callbacks.agreement.CallbackOptions`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> HardAttentionCallback(k=16).settings
        HardAttention(k=16, renormalize=False)
    """

    def __init__(
        self,
        k: int = HardAttention.k,
        renormalize: bool = HardAttention.renormalize,
        **options: Unpack[CallbackOptions],
    ) -> None:
        super().__init__(HardAttention(k, renormalize), options)
