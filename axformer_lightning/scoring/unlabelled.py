"""Search sets without labels.

Shape suffixes: ``N`` samples, ``L`` labels.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.scoring.batches import to_device
from axformer_lightning.scoring.context import as_is
from axformer_lightning.scoring.forward import run_forward
from axformer_lightning.scoring.names import LABELS, SPAN
from axformer_lightning.scoring.steps import logits_in, scored_through

logger = logging.getLogger(__name__)
NOT_ONE_CLASS = ("multi_label_classification", "regression")


def with_own_labels(module: nn.Module, transformer: PreTrainedModel, batches: Iterable[Any]) -> list[Any]:
    """Return batches with the classes that a classifier gives them itself, as `labels`, if no batch has labels.

    All other batches are returned as they are: of models that give something else than one class of several for each
    sample, of modules that score themselves or cannot be called without labels, and where a batch is not a dict or has
    labels. Classes are told from other numbers by how many there are: as many as the config of the Hugging Face model
    says, or as there are choices.

    Args:
        module: what is scored; unchanged afterwards.
        transformer: the model inside it.
        batches: the search set; unchanged.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        >>> model = BertForSequenceClassification(BertConfig(vocab_size=16, **sizes)).eval()
        >>> batch = {"input_ids": torch.ones(3, 4, dtype=torch.long)}
        >>> with_own_labels(model, model, [batch])[0]["labels"].shape
        torch.Size([3])
    """
    batches = list(batches)
    if hasattr(module, "axformer_step") or not batches or not all(map(_is_unlabelled, batches)):
        return batches
    config = transformer.config
    if getattr(config, "problem_type", None) in NOT_ONE_CLASS:
        return batches
    part, labelled = scored_through(module), []
    with as_is(module):
        for batch in batches:
            try:
                output, _ = run_forward(part, to_device(batch, transformer.device))
                logits = logits_in(output, part, is_span=False)
            except Exception:  # it needs labels, or gives no logits, which is said where the batches are scored
                return batches
            if not (isinstance(logits, Tensor) and _are_classes(logits, batch, config)):
                return batches
            named = {name: value for name, value in batch.items() if value is not None}
            labelled.append({**named, "labels": logits.argmax(-1).cpu()})
    logger.info("The search set has no labels: the classes that the model gives its samples stand for them.")
    return labelled


def _are_classes(logits: Tensor, batch: Mapping[str, Any], config: Any) -> bool:
    """Tell whether logits are one for each of several classes, or choices, of a sample."""
    ids = batch.get("input_ids")
    classes = ids.shape[1] if isinstance(ids, Tensor) and ids.dim() == 3 else getattr(config, "num_labels", None)
    return logits.dim() == 2 and logits.shape[1] > 1 and logits.shape[1] == classes


def _is_unlabelled(batch: Any) -> bool:
    return isinstance(batch, Mapping) and all(batch.get(name) is None for name in (*LABELS, *SPAN))
