"""From texts to token ids, with nothing but the library `tokenizers`.

Shape suffixes: ``B`` windows of a batch, ``T`` tokens.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

PADDED_FROM = {"roberta", "xlm-roberta", "camembert", "mpnet"}  # positions count from the padding's id + 1


def load_tokenizer(directory: Path, config: Mapping[str, Any]) -> Tokenizer:
    """Load `tokenizer.json`, and check that it can be that of the model.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it cannot be read, has more tokens than the model, or another padding token.
    """
    file = directory / "tokenizer.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"Expected the tokenizer {str(file)!r}, found none. Save it there with `tokenizer.save_pretrained`, or name"
            " another directory with `--tokenizer`."
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more special
        raise ValueError(f"Cannot read the tokenizer {str(file)!r}: {error}. Save it again.") from error
    last, rows = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0), config.get("vocab_size")
    if isinstance(rows, int) and last >= rows:
        raise ValueError(
            f"Expected the tokenizer of the model, which knows {rows} tokens, got {str(file)!r}, which goes up to token"
            f" {last}. Save the model with the tokenizer that it was trained with."
        )
    pad, padding = _pad_token(directory / "tokenizer_config.json"), config.get("pad_token_id")
    if pad is not None and padding is not None and tokenizer.token_to_id(pad) not in (None, padding):
        raise ValueError(
            f"Expected the tokenizer of the model, which pads with token {padding}, got {str(file)!r}, which pads with"
            f" {tokenizer.token_to_id(pad)}. Save the model with the tokenizer that it was trained with."
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def longest_input(config: Mapping[str, Any]) -> int:
    """Return how many tokens a model has positions for.

    Example:
        >>> longest_input({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1})
        512
    """
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or config.get("position_biased_input") is False:
        return sys.maxsize  # positions are relative
    return positions - (config.get("pad_token_id") or 0) - 1 if config.get("model_type") in PADDED_FROM else positions


def encode(tokenizer: Tokenizer, texts: Sequence[str], longest: int, max_length: int | None, where: str) -> Encoding:
    """Return the tokens of one text or a pair, cut to ``max_length`` if that is given.

    Raises:
        ValueError: if they are more than ``longest``.
    """
    first, second = texts if len(texts) == 2 else (texts[0], None)
    encoding = tokenizer.encode(first, second)
    if max_length is not None and len(encoding.ids) > max_length:
        tokenizer.enable_truncation(max_length, strategy="longest_first")
        encoding = tokenizer.encode(first, second)
        tokenizer.no_truncation()
    if len(encoding.ids) > longest:
        raise ValueError(
            f"Expected at most {longest} tokens, as many as the model has positions for, got {len(encoding.ids)} in"
            f" {where}. Shorten it, or cut what is longer with `--max-length {longest}`."
        )
    return encoding


def encode_windows(tokenizer: Tokenizer, texts: Sequence[str], length: int, stride: int, where: str) -> list[Encoding]:
    """Return a question and its context as overlapping windows of at most ``length`` tokens.

    Raises:
        ValueError: if the question leaves no more than ``stride`` tokens to the context.
    """
    question, context = texts[0].strip(), texts[1]
    room = length - len(tokenizer.encode(question, "").ids)
    if room <= stride:
        raise ValueError(
            f"Expected a question that leaves more than {stride} of {length} tokens to the context, got {room} left in"
            f" {where}. Ask a shorter question."
        )
    tokenizer.enable_truncation(length, stride=stride, strategy="only_second")
    first = tokenizer.encode(question, context)
    tokenizer.no_truncation()
    return [first, *first.overflowing]


def padded(encodings: Sequence[Encoding], pad_token_id: int) -> dict[str, NDArray[np.int64]]:
    """Return `input_ids`, `attention_mask` and `token_type_ids`, each of shape (B, T)."""
    length = max(len(encoding.ids) for encoding in encodings)

    def rows(values: Iterable[Sequence[int]], fill: int) -> NDArray[np.int64]:
        return np.array([[*row, *[fill] * (length - len(row))] for row in values], dtype=np.int64)

    return {
        "input_ids": rows((encoding.ids for encoding in encodings), pad_token_id),
        "attention_mask": rows((encoding.attention_mask for encoding in encodings), 0),
        "token_type_ids": rows((encoding.type_ids for encoding in encodings), 0),
    }


def _pad_token(path: Path) -> str | None:
    try:
        token = json.loads(path.read_text(encoding="utf-8"))["pad_token"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the file is not needed for anything else
    return token if isinstance(token, str) else None
