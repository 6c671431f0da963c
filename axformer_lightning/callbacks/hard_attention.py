"""Selective hard attention as a callback."""

from collections.abc import Iterable
from typing import Any, Literal

from torchmetrics import Metric

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.callbacks.base import SearchCallback


class HardAttentionCallback(SearchCallback):
    """Find the layers that do better with hard attention, and switch it on there.

    Runs after the end of a validation epoch, once its checkpoints are written. Beside an
    :class:`AccuracyDrivenPruningCallback` hard attention goes first, both share one plan and one round, and what is
    None here is as it is there.

    Args:
        k: keys that a hard query keeps.
        renormalize: whether the kept weights are scaled to sum to one; the reference form does not.
        criterion: ``"loss"``, ``"metric"``, or a torchmetrics metric; by default the loss.
        metric: the metric that ``"metric"`` stands for.
        majority: share of samples of which strictly more must be not worse, 0 switches the vote off; by default 0.5.
        tolerance: how far the total may fall behind the fine-tuned model; by default 0.
        retrain: ``"continue"`` with the weights, or ``"rewind"`` to those at the start of fit; by default continue.
        first_epoch: epoch, counted from 0, at the end of whose validation the first round runs.
        rounds: how many rounds there are.
        every_n_epochs: epochs from one round to the next.
        search_dataloader: samples that decide; by default the validation dataloader.
        model: dotted attribute path of the Hugging Face model, needed where the module holds several.

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
        *,
        criterion: str | Metric | None = None,
        metric: Metric | None = None,
        majority: float | None = None,
        tolerance: float | None = None,
        retrain: Literal["continue", "rewind"] | None = None,
        first_epoch: int = 0,
        rounds: int = 1,
        every_n_epochs: int = 1,
        search_dataloader: Iterable[Any] | None = None,
        model: str | None = None,
    ) -> None:
        super().__init__(
            judged_by={
                "criterion": criterion,
                "metric": metric,
                "majority": majority,
                "tolerance": tolerance,
                "retrain": retrain,
            },
            first_epoch=first_epoch,
            rounds=rounds,
            every_n_epochs=every_n_epochs,
            search_dataloader=search_dataloader,
            model=model,
        )
        self.settings = HardAttention(k, renormalize)
