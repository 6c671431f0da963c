"""Accuracy-driven int8 as a callback."""

from typing_extensions import Unpack

from axformer_lightning.callbacks.agreement import SCHEDULE, SHARED, CallbackOptions
from axformer_lightning.callbacks.base import SearchCallback
from axformer_lightning.rounds import TOLERANCE
from axformer_lightning.search import Int8, spelled_out


@spelled_out(CallbackOptions, dict.fromkeys(SHARED) | {"tolerance": TOLERANCE} | SCHEDULE)
class Int8Callback(SearchCallback):
    """Find the blocks, and whether the embeddings, that compute in int8 without harm to the task, and put them there.

    Runs after the end of a validation epoch, once its checkpoints are written. Every block is tried like any other
    candidate, and stays in floats where the loss or the metric says so. Epochs that follow train with rounding
    (arXiv 1910.06188): weights stay floats and are rounded in each call. Beside other callbacks in the same epoch int8
    goes last. Cut then or before: blocks in int8 can be cut no further.

    Args:
        embeddings: whether the embeddings of words are tried, too.
        static: see :class:`~axformer_lightning.search.Int8`.
        options: see :class:`~axformer_lightning.callbacks.agreement.CallbackOptions`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> Int8Callback(embeddings=False).settings
        Int8(embeddings=False, static=False)
    """

    def __init__(
        self, embeddings: bool = Int8.embeddings, static: bool = Int8.static, **options: Unpack[CallbackOptions]
    ) -> None:
        super().__init__(Int8(embeddings, static), {"tolerance": TOLERANCE, **options})
