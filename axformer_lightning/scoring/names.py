"""The names of the entries of a batch."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

ADVICE = (
    "Give the LightningModule a method `axformer_step(self, batch)` that returns the loss of each sample, shape (N,),"
    " predictions and targets (docs/lightning_modules.md)."
)
INTO_BATCHES = "Put samples into a DataLoader."
LABELS = ("labels", "label", "label_ids", "targets", "target", "y")
SPAN = ("start_positions", "end_positions")
SAMPLE_IDS = "sample_ids"
NOT_INPUTS = frozenset({*LABELS, *SPAN, SAMPLE_IDS})


def entries_of(batch: Any) -> Mapping[str, Any] | None:
    """Return the entries of a dict, NamedTuple or dataclass by name, None for anything else.

    Example:
        >>> from collections import namedtuple
        >>> entries_of(namedtuple("Pair", "x, y")(1, 2)), entries_of((1, 2))
        ({'x': 1, 'y': 2}, None)
    """
    if isinstance(batch, Mapping):
        return batch
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return {name: getattr(batch, name) for name in batch._fields}
    if is_dataclass(batch) and not isinstance(batch, type):
        return {field.name: getattr(batch, field.name) for field in fields(batch)}
    return None


def labels_of(entries: Mapping[str, Any]) -> Any:
    """Return the labels among the entries of a batch, under any of the names in :data:`LABELS`.

    Raises:
        ValueError: if there are none, or several.

    Example:
        >>> labels_of({"x": 1, "targets": 2})
        2
    """
    found = [name for name in LABELS if entries.get(name) is not None]
    if len(found) != 1:
        what = f"{' and '.join(found)} among " if found else ""
        raise ValueError(
            f"Expected `labels` in every batch of the search set, under exactly one of the names {', '.join(LABELS)},"
            f" got {what}{sorted(map(str, entries))}. Pass a search set with labels (`search_dataloader=` of the"
            f" callbacks), rename the entry, or: {ADVICE}"
        )
    return entries[found[0]]
