"""The samples that decide, from where a user has them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import tee
from typing import Any

import lightning as L
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader, Dataset, IterableDataset

from axformer_lightning.scoring import INTO_BATCHES

SearchSet = Iterable[Any] | Callable[[], Iterable[Any]] | L.LightningDataModule
METHOD = "search_dataloader"


class ReadAgain:
    """Batches that can be read once, as of a generator, made such that can be read again: what was read is kept.

    Args:
        batches: read no further than anybody asks for.

    Example:
        >>> batches = ReadAgain(iter("abc"))
        >>> next(iter(batches)), [*batches], [*batches]
        ('a', ['a', 'b', 'c'], ['a', 'b', 'c'])
    """

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        self._batches, again = tee(self._batches)
        return again


def readable_again(given: Any) -> Any:
    """Return what can be read several times: the same, or what keeps what an iterator yields."""
    is_read_once = isinstance(given, Iterator) and not hasattr(given, "flattened")  # a CombinedLoader starts over
    return ReadAgain(given) if is_read_once else given


def search_set(trainer: L.Trainer, pl_module: L.LightningModule, given: Any) -> Iterable[Any] | None:
    """Return the batches of a search set, which can be read several times; None where the validation set decides.

    Args:
        trainer: whose DataModule may have a method `search_dataloader`.
        pl_module: which may have one.
        given: batches; loaders, in a list or a dict; a DataModule, whose `search_dataloader` or else `val_dataloader`
            they are; or what returns one of these when called. None for the method of the trainer's DataModule, or
            else of the module.

    Raises:
        TypeError: if ``given`` is none of these.
    """
    with isolate_rng():  # training draws what it would have drawn
        return readable_again(_batches_of(trainer, pl_module, given))  # type: ignore[no-any-return]


def _batches_of(trainer: L.Trainer, pl_module: L.LightningModule, given: Any) -> Any:
    if given is None:
        owners = (getattr(trainer, "datamodule", None), pl_module)
        given = next((getattr(owner, METHOD) for owner in owners if hasattr(owner, METHOD)), None)
    given = _called(given)
    if hasattr(given, "prepare_data") and hasattr(given, "val_dataloader"):
        if given is not getattr(trainer, "datamodule", None):  # that one is set up already
            given.prepare_data()
            given.setup("fit")
        given = _called(getattr(given, METHOD, given.val_dataloader))
    if _are_loaders(given):
        return CombinedLoader(given, "sequential")  # as Lightning validates on them
    if isinstance(given, Mapping):
        raise TypeError(
            f"Expected `{METHOD}` to be batches, got {type(given).__name__}, which is one batch: pass `[batch]`."
        )
    if given is not None and (not hasattr(given, "__iter__") or _is_dataset(given)):
        raise TypeError(
            f"Expected `{METHOD}` to be batches, for example a torch.utils.data.DataLoader, a function that returns"
            f" some, or a LightningDataModule, got {type(given).__name__}. {INTO_BATCHES}"
        )
    return given


def _called(given: Any) -> Any:
    """Return what a function returns, also a class, and anything else as it is."""
    return given() if callable(given) and not hasattr(given, "__iter__") else given


def _are_loaders(given: Any) -> bool:
    """Tell whether it is several loaders, as a `val_dataloader` may return."""
    parts = list(given.values()) if isinstance(given, Mapping) else given if isinstance(given, list | tuple) else []
    return bool(parts) and all(isinstance(part, DataLoader) for part in parts)


def _is_dataset(given: Any) -> bool:
    return isinstance(given, Dataset) and not isinstance(given, IterableDataset)
