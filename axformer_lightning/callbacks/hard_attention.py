"""Selective hard attention as a callback."""

from collections.abc import Iterable
from typing import Any, Literal

from torchmetrics import Metric

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.callbacks.base import SearchCallback
from axformer_lightning.criteria import Vote
from axformer_lightning.search import EarlyStop


class HardAttentionCallback(SearchCallback):
    """Find the layers that do better with hard attention, and switch it on there.

    Runs after the end of a validation epoch, once its checkpoints are written. Beside an
    :class:`AccuracyDrivenPruningCallback` hard attention goes first, both share one plan and one round, and what is
    None here is as it is there.

    Args:
        k: keys that a hard query keeps.
        renormalize: whether the kept weights are scaled to sum to one; the reference form does not.
        criterion: ``"loss_and_metric"``, ``"loss"``, ``"metric"``, or a torchmetrics metric; by default the first.
        metric: the metric that ``"metric"`` and ``"loss_and_metric"`` stand for; beside the loss by default
            :class:`~axformer_lightning.criteria.LabelAccuracy`.
        majority: share of samples of which strictly more must be not worse, 0 switches the vote off; by default 0.
        tolerance: how far the total may fall behind the fine-tuned model; by default 0.
        vote: when a sample is worse: ``"loss"``, if its loss is higher; ``"prediction"``, if its prediction turns
            wrong.
        full_scores: whether candidates that cannot be accepted any more are evaluated to the end.
        early_stop: ``"exact"``: a candidate is given up once nothing can accept it any more; ``"statistical"``: once
            that is unlikely.
        confidence: with which a candidate that would be accepted is not given up by ``"statistical"``.
        batch_tokens: most tokens evaluated at once, where samples are batched for the search; on a GPU more are faster.
        cache_memory: bytes of each process for what is kept from one candidate to the next; by default the processes
            take a quarter of what is free.
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
        vote: Vote | None = None,
        full_scores: bool | None = None,
        early_stop: EarlyStop | None = None,
        confidence: float | None = None,
        batch_tokens: int | None = None,
        cache_memory: int | None = None,
        retrain: Literal["continue", "rewind"] | None = None,
        first_epoch: int = 0,
        rounds: int = 1,
        every_n_epochs: int = 1,
        search_dataloader: Iterable[Any] | None = None,
        model: str | None = None,
    ) -> None:
        super().__init__(
            HardAttention(k, renormalize),
            judged_by={
                "criterion": criterion,
                "metric": metric,
                "majority": majority,
                "tolerance": tolerance,
                "vote": vote,
                "full_scores": full_scores,
                "early_stop": early_stop,
                "confidence": confidence,
                "batch_tokens": batch_tokens,
                "cache_memory": cache_memory,
                "retrain": retrain,
            },
            first_epoch=first_epoch,
            rounds=rounds,
            every_n_epochs=every_n_epochs,
            search_dataloader=search_dataloader,
            model=model,
        )
