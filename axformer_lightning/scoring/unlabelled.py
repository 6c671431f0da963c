"""Search sets without labels.

Shape suffixes: ``N`` samples, ``T`` tokens, ``L`` labels.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.scoring.batches import IGNORED_LABEL, check_several, to_device
from axformer_lightning.scoring.context import as_is
from axformer_lightning.scoring.forward import run_forward
from axformer_lightning.scoring.names import LABELS, SPAN
from axformer_lightning.scoring.steps import logits_in, scored_through

logger = logging.getLogger(__name__)


def with_own_labels(module: nn.Module, transformer: PreTrainedModel, batches: Iterable[Any]) -> list[Any]:
    """Return batches with the answers of a model as their labels, if no batch has labels.

    | logits | labels |
    |---|---|
    | (N, L), one of several classes or choices | the class with the highest logit |
    | (N, L), ``problem_type="multi_label_classification"`` | 1 where a logit is above 0 |
    | (N, T, L), labels of tokens | that with the highest logit; none at padding |
    | (N, 1), a number; ``problem_type="regression"`` | the number |
    | `start_logits`, `end_logits` | the positions with the highest logits |

    All other batches are returned as they are: of modules that score themselves, cannot be called without labels or
    give something else, and where a batch is not a dict or has labels. Classes are told from other numbers by how many
    there are: as many as the config of the Hugging Face model says, or as there are choices.

    Args:
        module: what is scored; unchanged afterwards.
        transformer: the model inside it.
        batches: the search set; unchanged.

    Raises:
        ValueError: if it is one batch.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        >>> model = BertForSequenceClassification(BertConfig(vocab_size=16, **sizes)).eval()
        >>> batch = {"input_ids": torch.ones(3, 4, dtype=torch.long)}
        >>> with_own_labels(model, model, [batch])[0]["labels"].shape
        torch.Size([3])
    """
    check_several(batches)
    batches = list(batches)
    if hasattr(module, "axformer_step") or not batches or not all(map(_is_unlabelled, batches)):
        return batches
    part, labelled = scored_through(module), []
    with as_is(module):
        for batch in batches:
            try:
                output, _ = run_forward(part, to_device(batch, transformer.device))
                answers = _answers(output, part, batch, transformer.config)
            except Exception:  # it needs labels, or gives no logits, which is said where the batches are scored
                return batches
            if answers is None:
                return batches
            named = {name: value for name, value in batch.items() if value is not None}
            labelled.append({**named, **{name: value.cpu() for name, value in answers.items()}})
    logger.info("The search set has no labels: what the model answers to its samples stands for them.")
    return labelled


def _answers(output: Any, module: nn.Module, batch: Mapping[str, Any], config: Any) -> dict[str, Tensor] | None:
    """Return labels by name, or None for what is no answer of a known form."""
    logits = logits_in(output, module, is_span=False)
    if isinstance(logits, tuple):
        return {name: one.argmax(-1) for name, one in zip(SPAN, logits, strict=True)}
    ids, kind = batch.get("input_ids"), getattr(config, "problem_type", None)
    shape, rows = (ids.shape, len(ids)) if isinstance(ids, Tensor) else ((), len(logits))
    classes = shape[1] if len(shape) == 3 else getattr(config, "num_labels", None)
    if logits.dim() < 2 or logits.shape[-1] != classes or len(logits) != rows:
        return None
    if logits.dim() > 2:
        if classes == 1 or logits.shape[:2] != shape:
            return None
        mask = to_device(batch.get("attention_mask", torch.ones(shape)), logits.device)
        return {"labels": logits.argmax(-1).masked_fill(mask == 0, IGNORED_LABEL)}
    if kind == "multi_label_classification":
        return {"labels": (logits > 0).float()}
    return {"labels": logits.float() if kind == "regression" or classes == 1 else logits.argmax(-1)}


def _is_unlabelled(batch: Any) -> bool:
    return isinstance(batch, Mapping) and all(batch.get(name) is None for name in (*LABELS, *SPAN))
