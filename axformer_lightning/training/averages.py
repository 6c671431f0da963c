"""Averaged copies of a module that follow its cuts."""

from collections.abc import Iterator

import lightning as L
from torch import Tensor, nn


def averaged_modules(trainer: L.Trainer) -> Iterator[nn.Module]:
    """Yield the copies of the trained module in which callbacks of ``trainer`` average its weights.

    Lightning's `WeightAveraging`, `EMAWeightAveraging` and `StochasticWeightAveraging` keep such a copy, under the same
    name, while a fit runs. Parameters are matched by order, so the copy has to be cut like the module.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        average = getattr(callback, "_average_model", None)
        if isinstance(average, nn.Module):
            yield average.get_submodule("module") if hasattr(average, "n_averaged") else average


def restart_averages(trainer: L.Trainer) -> None:
    """Restart every average from the next weights in training."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for holder in (callback, getattr(callback, "_average_model", None)):
            count = getattr(holder, "n_averaged", None)
            if isinstance(count, Tensor):
                count.zero_()
