"""Accuracy-driven pruning as a callback."""

from collections.abc import Iterable
from typing import Any, Literal

from torchmetrics import Metric

from axformer_lightning.callbacks.agreement import CRITERION, MAJORITY
from axformer_lightning.callbacks.base import SearchCallback
from axformer_lightning.criteria import Rule, Vote
from axformer_lightning.search import EarlyStop, Pruning, SearchSettings, Strategy


class AccuracyDrivenPruningCallback(SearchCallback):
    """Find the blocks, heads and neurons that do not help the task, cut them out, and let training go on.

    Runs after the end of a validation epoch, once its checkpoints are written, and mutates the LightningModule: weights
    get smaller, optimizers and schedulers follow.

    Args:
        neuron_groups: how many groups the intermediate neurons of a layer form.
        inspection_factor: the parts of a rejected block are tried where its loss is below this times the best.
        strategy: ``"reference"``, from the last layer to the first; or ``"best_first"``, by what the loss is predicted
            to change by.
        sweeps: how often what is left is tried, at most, while something is accepted; None for as often as it takes.
        criterion: ``"loss_and_metric"``, the loss gains and the metric does not fall; ``"loss"`` (AxFormer's, with
            ``majority=0.5``); ``"metric"``; or a torchmetrics metric.
        metric: the metric that ``"metric"`` and ``"loss_and_metric"`` stand for; beside the loss by default
            :class:`~axformer_lightning.criteria.LabelAccuracy`.
        majority: share of samples of which strictly more must be not worse; 0 switches the vote off.
        tolerance: how far the total may fall behind the fine-tuned model, see
            :class:`~axformer_lightning.criteria.Rule`.
        vote: when a sample is worse: ``"loss"``, if its loss is higher; ``"prediction"``, if its prediction turns
            wrong.
        full_scores: whether candidates that cannot be accepted any more are evaluated to the end.
        early_stop: ``"exact"``: a candidate is given up once nothing can accept it any more; ``"statistical"``: once
            that is unlikely.
        confidence: with which a candidate that would be accepted is not given up by ``"statistical"``.
        batch_tokens: most tokens evaluated at once, where samples are batched for the search; on a GPU more are faster.
        cache_memory: bytes of each process for what is kept from one candidate to the next; by default the processes
            take a quarter of what is free.
        retrain: ``"continue"`` with the weights, or ``"rewind"`` to those at the start of fit.
        first_epoch: epoch, counted from 0, at the end of whose validation the first round runs.
        rounds: how many rounds there are.
        every_n_epochs: epochs from one round to the next.
        search_dataloader: samples that decide; by default the validation dataloader.
        model: dotted attribute path of the Hugging Face model, needed where the module holds several.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> AccuracyDrivenPruningCallback(majority=1.5)
        Traceback (most recent call last):
        ValueError: Expected `majority` in [0, 1), where 0 switches the vote off, got 1.5.
    """

    def __init__(
        self,
        neuron_groups: int = Pruning.neuron_groups,
        inspection_factor: float = Pruning.inspection_factor,
        *,
        strategy: Strategy = Pruning.strategy,
        sweeps: int | None = Pruning.sweeps,
        criterion: str | Metric = CRITERION,
        metric: Metric | None = None,
        majority: float = MAJORITY,
        tolerance: float = Rule.tolerance,
        vote: Vote = Rule.vote,
        full_scores: bool = SearchSettings.full_scores,
        early_stop: EarlyStop = SearchSettings.early_stop,
        confidence: float = SearchSettings.confidence,
        batch_tokens: int = SearchSettings.batch_tokens,
        cache_memory: int | None = None,
        retrain: Literal["continue", "rewind"] = "continue",
        first_epoch: int = 0,
        rounds: int = 1,
        every_n_epochs: int = 1,
        search_dataloader: Iterable[Any] | None = None,
        model: str | None = None,
    ) -> None:
        super().__init__(
            Pruning(neuron_groups, inspection_factor, strategy, sweeps),
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
