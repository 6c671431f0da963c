"""A teacher's logits of a data set, computed once and kept on disk.

Shape suffixes: ``N`` rows, ``T`` tokens.
"""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.basics import digest_of, eval_mode, replacing
from axformer_lightning.distillation.losses import logits_of
from axformer_lightning.scoring import to_device
from axformer_lightning.scoring.names import NOT_INPUTS


@torch.no_grad()
def teacher_logits(teacher: PreTrainedModel, batches: Iterable[Mapping[str, Any]]) -> list[Tensor]:
    """Return what a teacher says of each row, in order, in float32 on the CPU.

    Args:
        teacher: runs on its device, in eval mode.
        batches: rows with their `attention_mask`, padded on the right. Labels, and what the teacher does not take, are
            left out.

    Returns:
        For each row its logits, (L,); in question answering start and end of every token that is no
        padding, (T, 2).

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        >>> teacher = BertForSequenceClassification(BertConfig(vocab_size=9, num_labels=3, **sizes))
        >>> batch = {"input_ids": torch.tensor([[1, 2], [3, 4]]), "labels": torch.tensor([0, 1])}
        >>> [logits.shape for logits in teacher_logits(teacher, [batch])]
        [torch.Size([3]), torch.Size([3])]
    """
    wanted = inspect.signature(teacher.forward).parameters.keys() - NOT_INPUTS
    rows: list[Tensor] = []
    with eval_mode(teacher):
        for batch in batches:
            inputs = to_device({name: value for name, value in batch.items() if name in wanted}, teacher.device)
            logits = logits_of(teacher(**inputs))
            if isinstance(logits, tuple):
                lengths = batch["attention_mask"].sum(1).tolist()
                pairs_NT2 = torch.stack(logits, -1).float().cpu()
                rows += [pairs_T2[:length].clone() for pairs_T2, length in zip(pairs_NT2, lengths, strict=True)]
            else:
                rows += logits.float().cpu().unbind()
    return rows


def kept_logits(path: str | os.PathLike[str], key: str, compute: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Return the logits in a file; if there is none, or it holds others or is damaged, compute and write them first.

    Args:
        path: of the safetensors file.
        key: names everything that the logits depend on.
        compute: gives the logits of each row.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "teacher.safetensors")
        >>> once = kept_logits(path, "a", lambda: [torch.tensor([0.5, 1.5])])
        >>> kept_logits(path, "a", lambda: 1 / 0)
        [tensor([0.5000, 1.5000])]
    """
    kept = _read(Path(path), key)
    if kept is not None:
        return kept
    rows = compute()
    values, lengths = torch.cat(rows), torch.tensor([len(row) for row in rows])
    metadata = {"key": key, "digest": _digest(values, lengths)}
    with replacing(path) as temporary:
        save_file({"values": values.contiguous(), "lengths": lengths}, temporary, metadata)
    written = _read(Path(path), key)
    if written is None:
        raise OSError(f"Expected to read from {os.fspath(path)!r} what was written to it, got something else.")
    return written


def digest_of_model(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights and their names.

    Example:
        >>> digest_of_model(nn.Linear(2, 2)) == digest_of_model(nn.Linear(2, 2))
        False
    """
    parts = (part for name, value in model.state_dict().items() for part in (name.encode(), _bytes(value)))
    return digest_of(parts).hex()


def _read(path: Path, key: str) -> list[Tensor] | None:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            values, lengths = file.get_tensor("values"), file.get_tensor("lengths")
    except Exception:  # missing, cut short, not safetensors: errors without a common class
        return None
    if metadata.get("key") != key or metadata.get("digest") != _digest(values, lengths):
        return None
    return list(values.split(lengths.tolist()))


def _digest(*tensors: Tensor) -> str:
    return digest_of(map(_bytes, tensors)).hex()


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
