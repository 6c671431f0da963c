"""What a file has to say of its model, so that it can be used without anything else: labels, lengths, tokenizer."""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from axformer_lightning.costs import num_positions

KEY = "axformer_lightning"  # under which a file keeps them
TOKENIZER_KEY = "tokenizer"  # and the tokenizer, as `tokenizer.json` has it
NO_LIMIT = 2**31


@dataclass(frozen=True)
class Notes:
    """What is known of an exported model.

    Args:
        architecture: the class that was exported.
        inputs: names of the tensors that it reads.
        outputs: names of the tensors that it gives.
        labels: names of the classes, or of the numbers of a regression; a single one means a number, too.
        max_tokens: the longest sample that it has positions for.
        pad_token_id: what ids of padding are.
        int8: names of the modules whose weights are in int8.
        multi_label: whether a text may have several of the labels, or none.
        regression: whether it gives a number for each label.
        tokenizer: its `tokenizer.json`, or nothing.
    """

    architecture: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    labels: tuple[str, ...]
    max_tokens: int
    pad_token_id: int
    int8: tuple[str, ...] = ()
    multi_label: bool = False
    regression: bool = False
    tokenizer: str = ""

    def to_text(self) -> dict[str, str]:
        """Return the notes as two texts by name; the tokenizer is a text of its own, which others can read."""
        return {KEY: json.dumps(asdict(self) | {"tokenizer": ""}), TOKENIZER_KEY: self.tokenizer}

    @staticmethod
    def from_text(texts: Mapping[str, str], source: str) -> "Notes":
        """Return the notes that :meth:`to_text` made into texts.

        Raises:
            ValueError: if they are not there, or not those of this package; ``source`` is named.
        """
        try:
            told = json.loads(texts[KEY])
            named: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
            }
            return Notes(**{**named, "tokenizer": texts.get(TOKENIZER_KEY, "")})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Expected {source!r} to be a file that `python -m axformer_lightning.export` wrote, got one without"
                f" its notes ({type(error).__name__}: {error}). Export the model again."
            ) from error

    def check(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raise unless ``arrays`` can be the inputs of the model.

        Raises:
            ValueError: if a name is missing, or samples are longer than the model has positions for, or no batch.
        """
        if missing := [name for name in self.inputs if name not in arrays]:
            raise ValueError(f"Expected the inputs {[*self.inputs]}, got none for {missing}. Give them, too.")
        if "input_ids" not in self.inputs:
            return
        shape = np.shape(arrays["input_ids"])
        if len(shape) != 2:
            raise ValueError(f"Expected `input_ids` of samples and tokens, got the shape {shape}. Give a batch.")
        if shape[1] > self.max_tokens:
            raise ValueError(
                f"Expected at most {self.max_tokens} tokens, as many as the model has positions for, got {shape[1]}."
                " Shorten the text, or let the tokenizer truncate it."
            )


def notes_of(
    model: PreTrainedModel,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    int8: tuple[str, ...],
    tokenizer: PreTrainedTokenizerBase | None,
) -> Notes:
    """Return what a file has to say of ``model``.

    Raises:
        ValueError: if the tokenizer is one of another model, or has no `tokenizer.json`.
    """
    config: Any = model.config
    return Notes(
        architecture=type(model).__name__,
        inputs=inputs,
        outputs=outputs,
        labels=tuple(config.id2label[i] for i in range(config.num_labels)),
        max_tokens=min(num_positions(model), NO_LIMIT),
        pad_token_id=getattr(config, "pad_token_id", None) or 0,
        int8=int8,
        multi_label=config.problem_type == "multi_label_classification",
        regression=config.problem_type == "regression",
        tokenizer=_tokenizer_text(model, tokenizer),
    )


def _tokenizer_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> str:
    if tokenizer is None:
        return ""
    largest, rows = max(tokenizer.get_vocab().values()), len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    if largest >= rows:
        raise ValueError(
            f"Expected the tokenizer of the model, whose embeddings have {rows} rows, got one with ids up to {largest}."
            " Give the one that it was trained with."
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(
            f"Expected a tokenizer with a `tokenizer.json`, got a {type(tokenizer).__name__}. Convert it with"
            " `AutoTokenizer.from_pretrained(..., use_fast=True)`, or pass `tokenizer=None`."
        )
    plain = copy.deepcopy(backend)  # an earlier call may have left it cutting and padding
    plain.no_truncation()
    plain.no_padding()
    return str(plain.to_str())
