"""What surrounds every score: no dropout, no gradients, no traces."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.basics import eval_mode, untouched
from axformer_lightning.hard_attention import eager_attention


@contextmanager
def scoring(module: nn.Module, transformer: PreTrainedModel) -> Iterator[None]:
    """Run ``module`` in eval mode, eagerly and without gradients; afterwards it is as it was.

    Mode, buffers, metrics, counters and random states of the module are brought back, and what it logs is dropped.
    """
    with as_is(module), eager_attention(transformer):
        yield


@contextmanager
def as_is(module: nn.Module) -> Iterator[None]:
    """Do what :func:`scoring` does, with the attention implementation that the module has."""
    # Hooks added after `torch.compile` are ignored without a word, hence the stance.
    eagerly = torch.compiler.set_stance("force_eager")
    with untouched(module), eval_mode(module), torch.no_grad(), eagerly, logged(module):
        yield


@contextmanager
def logged(module: nn.Module) -> Iterator[dict[str, Any]]:
    """Keep what ``module`` logs from the trainer, and yield it, by name.

    Example:
        >>> class Logs(nn.Module):
        ...     def log(self, name, value): ...
        ...     def log_dict(self, values): ...
        >>> module = Logs()
        >>> with logged(module) as values:
        ...     module.log("loss", 0.5, prog_bar=True)
        >>> values, "log" in vars(module)
        ({'loss': 0.5}, False)
    """
    values: dict[str, Any] = {}

    def log(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        values[name] = value

    with ExitStack() as undo:
        for part in module.modules():
            if hasattr(part, "log_dict") and hasattr(part, "log"):  # a LightningModule, whose `log_dict` calls `log`
                undo.callback(vars(part).update, {"log": vars(part)["log"]} if "log" in vars(part) else {})
                undo.callback(vars(part).pop, "log", None)
                vars(part)["log"] = log
        yield values
