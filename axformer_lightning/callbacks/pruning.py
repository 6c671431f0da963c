"""Accuracy-driven pruning as a callback."""

from typing_extensions import Unpack

from axformer_lightning.callbacks.agreement import SCHEDULE, SHARED, CallbackOptions
from axformer_lightning.callbacks.base import SearchCallback
from axformer_lightning.search import Pruning, Strategy, spelled_out


@spelled_out(CallbackOptions, SHARED | SCHEDULE)
class AccuracyDrivenPruningCallback(SearchCallback):
    """Find the blocks, heads and neurons that do not help the task, cut them out, and let training go on.

    Runs after the end of a validation epoch, once its checkpoints are written, and mutates the LightningModule: weights
    get smaller, optimizers and schedulers follow.

    Args:
        neuron_groups: how many groups the intermediate neurons of a layer form; without repair.
        inspection_factor: the parts of a rejected block are tried where its loss is below this times the best; without
            repair, with which they always are.
        strategy: ``"reference"``, from the last layer to the first; or ``"best_first"``, by what the loss is predicted
            to change by: blocks, and without repair the parts of each.
        sweeps: how often what is left is tried, at most, while something is accepted; None for as often as it takes.
        repair: whether a candidate is judged as it would be left, repaired by least squares, and blocks that cannot go
            are tried at some widths, the narrowest first, instead of without single parts.
        options: see :class:`~axformer_lightning.callbacks.agreement.CallbackOptions`.

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
        repair: bool = True,
        **options: Unpack[CallbackOptions],
    ) -> None:
        super().__init__(Pruning(neuron_groups, inspection_factor, strategy, sweeps, repair), {**SHARED, **options})
