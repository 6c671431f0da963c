"""From texts to token ids, with nothing but the library `tokenizers`.

Shape suffixes: ``B`` windows of a batch, ``T`` tokens.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer


def read_tokenizer(text: str, source: str, num_tokens: int) -> Tokenizer:
    """Return the tokenizer of a `tokenizer.json`, and check that it can be that of the model.

    Args:
        text: of the file.
        source: named in errors.
        num_tokens: how many tokens the model knows.

    Raises:
        ValueError: if there is no text, it cannot be read, or has more tokens than the model.
    """
    if not text:
        raise ValueError(
            f"Expected a tokenizer in {source!r}, got none. Save or export the model with its tokenizer"
            " (`tokenizer=`), or name the directory of its `tokenizer.json` with `--tokenizer`."
        )
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more special
        raise ValueError(f"Cannot read the tokenizer in {source!r}: {error}. Save it again.") from error
    last = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if last >= num_tokens:
        raise ValueError(
            f"Expected the tokenizer of the model, which knows {num_tokens} tokens, got the one in {source!r}, which"
            f" goes up to token {last}. Give the one that the model was trained with."
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


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
