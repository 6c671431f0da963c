"""Batches without wasted padding.

Shape suffixes: ``N`` rows (samples, or windows of samples), ``T`` tokens.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from axformer_lightning.scoring.names import LABELS, SAMPLE_IDS

Batch = Mapping[str, Tensor]
Row = tuple[int, dict[str, Tensor]]  # its length without padding, and its entries
# What is cut and padded along the tokens, where it is as long as they are; anything else is left whole.
ALONG_TOKENS = frozenset(
    {"input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds", "special_tokens_mask", "bbox"}
    | {"offset_mapping", "offsets", *LABELS}
)
BATCH_TOKENS = 768  # enough to keep two cores busy; with smaller batches a search stops a candidate sooner
IGNORED_LABEL = -100  # what transformers and torch.nn.functional.cross_entropy ignore


def batches_by_length(
    batches: Iterable[Batch], batch_tokens: int = BATCH_TOKENS, pad_token_id: int = 0
) -> list[dict[str, Tensor]]:
    """Strip the padding at the end of each sample and batch samples of similar length together.

    Only trailing padding is removed, as leading padding shifts absolute positions. Rows with the same number in
    `sample_ids` form one sample, as long as its longest row, and stay next to each other.

    Args:
        batches: dicts of tensors with one row per sample; `attention_mask` tells padding from text.
        batch_tokens: most tokens of a batch, padding included; more if a single sample has more.
        pad_token_id: fills `input_ids` up to the longest row of a batch.

    Returns:
        Batches from short to long samples. Samples of equal length keep their order.

    Raises:
        ValueError: if there is no sample, the tensors of a batch differ in their number of rows, or an entry is
            missing in some batches.

    Example:
        >>> ids, mask = torch.tensor([[5, 6, 7], [8, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
        >>> batch = {"input_ids": ids, "attention_mask": mask}
        >>> [b["input_ids"].tolist() for b in batches_by_length([batch], batch_tokens=3)]
        [[[8]], [[5, 6, 7]]]
    """
    rows = [row for batch in batches for row in _rows(batch)]
    if not rows:
        raise ValueError("Expected a search set of at least one sample, got an empty one. Pass batches with samples.")
    entries = {frozenset(row) for _, row in rows}
    if len(entries) > 1:
        some = sorted(frozenset.union(*entries) - frozenset.intersection(*entries))
        raise ValueError(f"Expected the same entries in every batch of the search set, but only some have {some}.")
    samples = sorted(_samples(rows), key=_length)
    return [_pad([row for _, row in chunk], _length(chunk), pad_token_id) for chunk in _chunks(samples, batch_tokens)]


def check_several(batches: Any) -> None:
    """Refuse one batch in the place of several.

    Raises:
        ValueError: if it is a dict.
    """
    if isinstance(batches, Mapping):
        raise ValueError("Expected a list of batches, got a dict, which is one batch. Pass `[batch]`.")


def to_device(batch: Any, device: torch.device) -> Any:
    """Return ``batch`` with every tensor in it on ``device``, however deeply nested; the original is unchanged.

    Example:
        >>> to_device([{"x": torch.ones(2)}, "text"], torch.device("meta"))
        [{'x': tensor(..., device='meta', size=(2,))}, 'text']
    """
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, MutableMapping):
        moved: Any = copy.copy(batch)
        for name, value in batch.items():
            moved[name] = to_device(value, device)
        return moved
    if is_dataclass(batch) and not isinstance(batch, type):
        moved = copy.copy(batch)
        for field in fields(batch):
            object.__setattr__(moved, field.name, to_device(getattr(batch, field.name), device))  # frozen or not
        return moved
    if isinstance(batch, tuple | list):
        values = [to_device(value, device) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else type(batch)(values)
    return batch.to(device) if hasattr(batch, "to") else batch


def _samples(rows: Iterable[Row]) -> list[list[Row]]:
    """Put the rows of each sample together, samples in order of first appearance."""
    samples: dict[int, list[Row]] = {}
    for position, row in enumerate(rows):
        ids = row[1].get(SAMPLE_IDS)
        samples.setdefault(position if ids is None else int(ids.item()), []).append(row)
    return list(samples.values())


def _length(rows: Iterable[Row]) -> int:
    return max(length for length, _ in rows)


def _chunks(samples: Iterable[list[Row]], batch_tokens: int) -> Iterator[list[Row]]:
    """Yield as many whole samples as fit into a batch, from short to long, and at least one."""
    chunk: list[Row] = []
    for sample in samples:
        if chunk and (len(chunk) + len(sample)) * max(1, _length(sample)) > batch_tokens:
            yield chunk
            chunk = []
        chunk = [*chunk, *sample]
    yield chunk


def _rows(batch: Batch) -> Iterator[Row]:
    rows = {name: len(value) for name, value in batch.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"Expected one row per sample in every tensor of a batch, got {rows}.")
    tokens = batch.get("input_ids", batch.get("inputs_embeds"))
    mask_NT = batch.get("attention_mask")
    for n in range(next(iter(rows.values()), 0)):
        if tokens is None:
            yield 0, {name: value[n] for name, value in batch.items()}
            continue
        length = tokens.shape[1]
        if mask_NT is not None and mask_NT[n].any():
            length = int(mask_NT[n].nonzero().max().item()) + 1
        sample = {"attention_mask": torch.ones(length, dtype=torch.long, device=tokens.device)}
        for name, value in batch.items():
            sample[name] = value[n, :length] if follows_tokens(name, value, tokens) else value[n]
        yield length, sample


def follows_tokens(name: str, value: Tensor, tokens: Tensor) -> bool:
    """Tell whether the second dimension of an entry counts tokens; floating labels are multi-label targets.

    Example:
        >>> ids, numbers = torch.ones(2, 3), torch.ones(2, 3)
        >>> follows_tokens("token_type_ids", ids, ids), follows_tokens("features", numbers, ids)
        (True, False)
    """
    along = name in ALONG_TOKENS and value.dim() >= 2 and value.shape[:2] == tokens.shape[:2]
    return along and not (name in LABELS and value.is_floating_point())


def _pad(samples: list[dict[str, Tensor]], length: int, pad_token_id: int) -> dict[str, Tensor]:
    fill = {"input_ids": pad_token_id} | dict.fromkeys(LABELS, IGNORED_LABEL)
    batch = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        if len({value.shape for value in values}) > 1:
            values = [_pad_to(value, length, fill.get(name, 0)) for value in values]
        batch[name] = torch.stack(values)
    return batch


def _pad_to(value: Tensor, length: int, fill: int) -> Tensor:
    padded = value.new_full((length, *value.shape[1:]), fill)
    padded[: len(value)] = value
    return padded
