"""Which batches a module is scored on: by length where that changes no sample's loss, else as they come."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from transformers import PreTrainedModel

from axformer_lightning.scoring.agreement import check_agreement
from axformer_lightning.scoring.batches import (
    ALONG_TOKENS,
    BATCH_TOKENS,
    Batch,
    batches_by_length,
    check_several,
    follows_tokens,
    to_device,
)
from axformer_lightning.scoring.context import as_is
from axformer_lightning.scoring.logits import WithLogits
from axformer_lightning.scoring.metrics import check_metric
from axformer_lightning.scoring.names import SAMPLE_IDS
from axformer_lightning.scoring.steps import scored_through, step_of

logger = logging.getLogger(__name__)

POSITION = "position in the search set"  # tells samples from each other while two arrangements are compared
ROUNDING = 1e-3  # of a loss, absolute and relative
HALF_ROUNDING = 5e-2
ENDLESS = 2**62


def search_batches(
    module: nn.Module, batches: Iterable[Any], batch_tokens: int = BATCH_TOKENS, config: Any = None
) -> list[Any]:
    """Return the search set in the batches that ``module`` is scored on: by length if that is safe, else unchanged.

    It is safe if all of these hold:

    - :func:`can_rebatch` holds for every batch, all have the same entries, and what follows the tokens can be told from
      what does not;
    - the module's forward takes a mask, and no number in `sample_ids` stands in several batches;
    - the module has no `axformer_step`, whose losses may depend on which samples share a batch (in-batch negatives), or
      says `axformer_samples_independent`;
    - the model does not want lengths that are multiples of a number (`chunk_size_feed_forward` of its config);
    - in the two batches with the shortest and the longest sample no loss changes. Otherwise a warning is logged.

    Args:
        module: the module to score; unchanged afterwards.
        batches: the search set.
        batch_tokens: see :func:`~axformer_lightning.scoring.batches_by_length`.
        config: of the transformer; its `pad_token_id`, or 0, fills.

    Raises:
        ValueError: as :func:`~axformer_lightning.scoring.batches_by_length`.
    """
    batches = list(batches)
    if (
        samples_depend(module)
        or bool(getattr(config, "chunk_size_feed_forward", None))
        or not all(map(can_rebatch, batches))
        or not (_can_tell(batches) and _takes_mask(module, batches))
    ):
        return batches
    pad_token_id = getattr(config, "pad_token_id", None) or 0
    arranged: list[Any] = list(batches_by_length(batches, batch_tokens, pad_token_id))
    change = _change(module, _extremes(batches), pad_token_id, getattr(config, "problem_type", None))
    if change is None:
        return arranged
    logger.warning(
        "The search leaves all samples in their batches, as losses change by up to %.3g with the lengths that they are"
        " padded to. Batches by length would be faster: mask padding by `attention_mask` in `forward`.",
        change,
    )
    return batches


def checked_search_batches(
    module: nn.Module,
    transformer: PreTrainedModel,
    batches: Iterable[Any],
    batch_tokens: int = BATCH_TOKENS,
    metric: Metric | None = None,
) -> list[Any]:
    """Return the search set as :func:`search_batches` does, for a module that learns by the loss that scores it.

    Args:
        module: the module to score; unchanged afterwards.
        transformer: the model inside it.
        batches: the search set.
        batch_tokens: see :func:`~axformer_lightning.scoring.batches_by_length`.
        metric: by which it will be judged, if any.

    Raises:
        ValueError: as :func:`~axformer_lightning.scoring.check_agreement`, as :func:`search_batches`, or as
            :func:`~axformer_lightning.scoring.check_metric`, or if what is given is one batch.
    """
    check_several(batches)
    batches, config = list(batches), transformer.config
    on_device = (to_device(batch, transformer.device) for batch in batches)
    found = check_agreement(module, on_device, getattr(config, "problem_type", None))
    check_metric(metric, found, transformer.device)
    return search_batches(module, batches, batch_tokens, config)


def samples_depend(module: nn.Module) -> bool:
    """Tell whether the losses of ``module`` may depend on which samples share a batch.

    Example:
        >>> samples_depend(nn.Linear(1, 1))
        False
    """
    return hasattr(module, "axformer_step") and not getattr(module, "axformer_samples_independent", False)


def can_rebatch(batch: Any) -> bool:
    """Tell whether a batch is a dict of tensors with a row per sample, as transformers' tokenizers make it.

    Example:
        >>> can_rebatch({"input_ids": torch.ones(2, 3), "labels": torch.ones(2)})
        True
        >>> can_rebatch({"input_ids": torch.ones(2, 4, 3), "labels": torch.ones(2)})  # several choices
        False
    """
    if not has_rows(batch) or "input_ids" not in batch or batch["input_ids"].dim() != 2:
        return False
    # A mask of pairs of tokens, or of more than the words, is not cut along with them.
    return "attention_mask" not in batch or batch["attention_mask"].shape == batch["input_ids"].shape


def has_rows(batch: Any) -> bool:
    """Tell whether a batch is a dict of tensors, all with as many rows.

    Example:
        >>> has_rows({"pixel_values": torch.ones(2, 3, 4, 4), "labels": torch.ones(2)})
        True
    """
    return (
        isinstance(batch, Mapping)
        and all(isinstance(value, Tensor) and value.dim() > 0 for value in batch.values())
        and len({len(value) for value in batch.values()}) == 1
    )


def _can_tell(batches: Sequence[Batch]) -> bool:
    """Tell whether it is known of every entry if it follows the tokens, and of every row which sample it is of."""
    if len({frozenset(batch) for batch in batches}) > 1:
        return False  # loaders of several tasks, say
    ids = [set(batch[SAMPLE_IDS].tolist()) for batch in batches if SAMPLE_IDS in batch]
    if len(set().union(*ids)) < sum(map(len, ids)):
        return False  # counted anew in every batch
    for name in {name for batch in batches for name in batch}:
        values = [(batch[name], batch["input_ids"]) for batch in batches if name in batch and batch[name].dim() > 1]
        along = [value.shape[:2] == tokens.shape[:2] for value, tokens in values]
        if name not in ALONG_TOKENS and values and (all(along) or len({value.shape[1:] for value, _ in values}) > 1):
            return False
        if name in ALONG_TOKENS and len({follows_tokens(name, value, tokens) for value, tokens in values}) > 1:
            return False
    return True


def _takes_mask(module: nn.Module, batches: Sequence[Batch]) -> bool:
    if hasattr(module, "axformer_step"):
        return True
    parameters = signature(scored_through(module).forward).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values()) or "attention_mask" in parameters
    return takes_all or not any(name in parameters for batch in batches for name in batch)  # it takes the whole batch


def _extremes(batches: Sequence[Batch]) -> list[Batch]:
    """Return the batches with the shortest and with the longest sample."""
    shortest = min(batches, key=lambda batch: min(_lengths(batch), default=0), default={})
    longest = max(batches, key=lambda batch: max(_lengths(batch), default=0), default={})
    return [shortest] if shortest is longest else [shortest, longest]


def _lengths(batch: Batch) -> list[int]:
    mask_NT = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
    return mask_NT.sum(1).tolist()


def _change(module: nn.Module, batches: Sequence[Batch], pad_token_id: int, problem_type: str | None) -> float | None:
    """Return by how much losses change, at most, where all samples share one batch; None for no more than rounding."""
    step, device = step_of(module, problem_type), next(module.parameters(), torch.empty(0)).device
    marked: list[Batch] = []
    for batch in batches:
        rows = batch.get(SAMPLE_IDS, torch.arange(len(batch["input_ids"]))).tolist()
        first = sum(len(set(other[POSITION].tolist())) for other in marked)
        place = {sample: first + number for number, sample in enumerate(dict.fromkeys(rows))}
        marked.append({**batch, POSITION: torch.tensor([place[row] for row in rows])})

    def losses(batch: Batch) -> tuple[list[int], Tensor]:
        given = {name: value for name, value in batch.items() if name != POSITION}
        scored, positions = step(to_device(given, device)), batch[POSITION]
        if isinstance(scored, WithLogits):
            positions = positions[scored.counted.to(positions.device)]
        return list(dict.fromkeys(positions.tolist())), scored.loss_N.double()

    with as_is(module):
        try:
            own = [losses(batch) for batch in marked]
        except Exception:  # the search, which scores them all, says what is wrong
            return None
        if not all(loss_N.isfinite().all() for _, loss_N in own):
            return None  # so it does here
        (together,) = batches_by_length(marked, ENDLESS, pad_token_id)
        order, loss_N = losses(together)
    at = {position: row for row, position in enumerate(position for positions, _ in own for position in positions)}
    own_N = torch.cat([loss_N for _, loss_N in own])[[at[position] for position in order]]
    halves = {torch.float16, torch.bfloat16} & {parameter.dtype for parameter in module.parameters()}
    rounding = HALF_ROUNDING if halves or torch.is_autocast_enabled(device.type) else ROUNDING
    change_N = (loss_N - own_N).abs()
    return None if (change_N <= rounding * (1 + own_N.abs())).all() else float(change_N.max())


def shuffled(batches: Sequence[Any]) -> list[Any]:
    """Return batches in a random order, always the same: by length the first would be no sample of the whole.

    Example:
        >>> shuffled("abcd")
        ['a', 'b', 'd', 'c']
    """
    # Drawn on the CPU, whatever torch's default device is.
    order = torch.randperm(len(batches), generator=torch.Generator("cpu").manual_seed(0), device="cpu").tolist()
    return [batches[i] for i in order]
