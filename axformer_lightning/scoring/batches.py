"""Batches without wasted padding.

Shape suffixes: ``N`` samples, ``T`` tokens.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

Batch = Mapping[str, Tensor]
IGNORED_LABEL = -100  # what transformers and torch.nn.functional.cross_entropy leave out


def batches_by_length(batches: Iterable[Batch], batch_size: int = 32, pad_token_id: int = 0) -> list[dict[str, Tensor]]:
    """Strip the padding at the end of each sample and batch samples of similar length together.

    Only trailing padding goes: a model with absolute positions sees a difference in leading padding.

    Args:
        batches: dicts of tensors with one row per sample; `attention_mask` tells padding from text.
        batch_size: samples of a batch.
        pad_token_id: fills `input_ids` up to the longest sample of a batch.

    Returns:
        Batches from short to long samples. Samples of equal length keep their order.

    Raises:
        ValueError: if there is no sample, the tensors of a batch differ in their number of rows, or an entry is
            missing in some batches.

    Example:
        >>> ids, mask = torch.tensor([[5, 6, 7], [8, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
        >>> batch = {"input_ids": ids, "attention_mask": mask}
        >>> [b["input_ids"].tolist() for b in batches_by_length([batch], batch_size=1)]
        [[[8]], [[5, 6, 7]]]
    """
    samples = [sample for batch in batches for sample in _samples(batch)]
    if not samples:
        raise ValueError("Expected a search set of at least one sample, got an empty one. Pass batches with samples.")
    entries = {frozenset(sample) for _, sample in samples}
    if len(entries) > 1:
        some = sorted(frozenset.union(*entries) - frozenset.intersection(*entries))
        raise ValueError(f"Expected the same entries in every batch of the search set, but only some have {some}.")
    samples.sort(key=lambda sample: sample[0])
    chunks = (samples[i : i + batch_size] for i in range(0, len(samples), batch_size))
    return [_pad([sample for _, sample in chunk], chunk[-1][0], pad_token_id) for chunk in chunks]


def _samples(batch: Batch) -> Iterator[tuple[int, dict[str, Tensor]]]:
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
            sample[name] = value[n, :length] if _follows_tokens(name, value, tokens) else value[n]
        yield length, sample


def _follows_tokens(name: str, value: Tensor, tokens: Tensor) -> bool:
    """Tell whether the second dimension of ``value`` counts tokens; floating labels are multi-label targets."""
    along = value.dim() >= 2 and value.shape[:2] == tokens.shape[:2]
    return along and not (name == "labels" and value.is_floating_point())


def _pad(samples: list[dict[str, Tensor]], length: int, pad_token_id: int) -> dict[str, Tensor]:
    fill = {"input_ids": pad_token_id, "labels": IGNORED_LABEL}
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
