"""Accuracy-driven pruning as a callback."""

from collections.abc import Iterable
from typing import Any, Literal

from torchmetrics import Metric

from axformer_lightning.callbacks.base import SearchCallback
from axformer_lightning.criteria import Rule
from axformer_lightning.finding import Pruning


class AccuracyDrivenPruningCallback(SearchCallback):
    """Find the blocks, heads and neurons that do not help the task, cut them out, and let training go on.

    Runs after the end of a validation epoch, once its checkpoints are written, and mutates the LightningModule: weights
    get smaller, optimizers and schedulers follow.

    Args:
        neuron_groups: how many groups the intermediate neurons of a layer form.
        inspection_factor: the parts of a rejected block are tried where its loss is below this times the best.
        criterion: ``"loss"`` (AxFormer's), ``"metric"``, or a torchmetrics metric.
        metric: the metric that ``"metric"`` stands for.
        majority: share of samples of which strictly more must be not worse; 0 switches the vote off.
        tolerance: how far the total may fall behind the fine-tuned model, see
            :class:`~axformer_lightning.criteria.Rule`.
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
        criterion: str | Metric = "loss",
        metric: Metric | None = None,
        majority: float = Rule.majority,
        tolerance: float = Rule.tolerance,
        retrain: Literal["continue", "rewind"] = "continue",
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
        self.settings = Pruning(neuron_groups, inspection_factor)
