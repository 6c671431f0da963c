"""Averaged copies of a module that follow its cuts."""

from collections.abc import Iterable, Iterator

import lightning as L
import torch
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


def copy_parameters_(average: nn.Module, module: nn.Module, names: Iterable[str]) -> None:
    """Give an average the values that a module has under these names, as far as it has them.

    Args:
        average: cut as the module is.
        module: what it is an average of.
        names: of parameters whose values a repair has replaced.
    """
    own = dict(average.named_parameters())
    with torch.inference_mode(False), torch.no_grad():
        for name in names:
            if name in own:
                own[name].copy_(module.get_parameter(name))
