"""Long contexts as overlapping windows: tokens, the characters that they stand for, and the answer's position.

Shape suffixes: ``T`` tokens of a window.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value, concatenate_datasets
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from axformer_lightning.tasks.squad.rows import NOWHERE

OUTSIDE = -1  # offsets of tokens outside the context
_CHUNK = 500  # questions tokenized at a time
_TYPES = {
    "input_ids": List(Value("int32")),
    "token_type_ids": List(Value("int8")),
    "attention_mask": List(Value("int8")),
    "start_positions": Value("int32"),
    "end_positions": Value("int32"),
    "sample_ids": Value("int32"),
    "offsets": List(List(Value("int32"), length=2)),
}


def make_windows(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int = 384, doc_stride: int = 128, first_id: int = 0
) -> Dataset:
    """Return the tokenized windows of every question, those of one question next to each other.

    As in transformers' `run_qa.py`: each window holds the question and as much of its context as fits, and overlaps the
    one before by ``doc_stride`` tokens. The label is the question's first answer; it is the first token of the window
    (`[CLS]`) if the window does not hold all of the answer, and for an impossible question.

    Args:
        rows: from `align_answers`.
        tokenizer: a fast one.
        max_length: tokens of a window.
        doc_stride: tokens of the context that a window repeats from the one before.
        first_id: `sample_ids` of the first question.

    Returns:
        Columns `input_ids`, `attention_mask`, `token_type_ids` (if the tokenizer has them), `start_positions`,
        `end_positions`, `sample_ids` (which question) and `offsets`, shape (T, 2): the characters of the context that
        a token stands for, (-1, -1) outside the context.

    Raises:
        ValueError: if the tokenizer gives no offsets, or a question leaves no more than ``doc_stride`` tokens for a
            context that needs more.

    Example:
        >>> from axformer_lightning.tasks.vocabulary import train_wordpiece
        >>> answers = {"text": ["otter"], "answer_start": [3]}
        >>> row = {"id": "1", "context": "An otter swims.", "question": "Who?", "answers": answers}
        >>> tokenizer = train_wordpiece(["an otter swims who"])
        >>> windows = make_windows(Dataset.from_list([row]), tokenizer, max_length=8, doc_stride=1)
        >>> windows["offsets"][0]
        [[-1, -1], [-1, -1], [-1, -1], [-1, -1], [0, 2], [3, 8], [9, 14], [-1, -1]]
        >>> windows["start_positions"][:], windows["sample_ids"][:]
        ([5, 0], [0, 0])
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"Expected a tokenizer that gives the characters of its tokens, got {type(tokenizer).__name__}, which does"
            " not: use a fast one (`AutoTokenizer.from_pretrained(..., use_fast=True)`)."
        )
    absent = {"token_type_ids"} - set(tokenizer.model_input_names)
    features = Features({name: kind for name, kind in _TYPES.items() if name not in absent})
    parts = [Dataset.from_dict({name: [] for name in features}, features=features)]
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        found = list(_windows(chunk, tokenizer, max_length, doc_stride, first_id + start))
        columns = {name: [window[name] for window in found] for name in features}
        parts.append(Dataset.from_dict(columns, features=features))
    return concatenate_datasets(parts)


def _windows(
    rows: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, max_length: int, doc_stride: int, first_id: int
) -> Iterator[dict[str, Any]]:
    # Some tokenizers make leading blanks tokens, and many of them leave no room for the context.
    questions = [question.strip() for question in rows["question"]]
    _check_room(questions, rows, tokenizer, max_length, doc_stride)
    largest = max_length - tokenizer.num_special_tokens_to_add(pair=True) - 1  # more is refused, even if nothing is cut
    encoded = tokenizer(
        questions,
        rows["context"],
        truncation="only_second",
        max_length=max_length,
        stride=min(doc_stride, max(0, largest)),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    for window, i in enumerate(encoded["overflow_to_sample_mapping"]):
        offsets_T2 = np.array(encoded["offset_mapping"][window])
        offsets_T2[[which != 1 for which in encoded.sequence_ids(window)]] = OUTSIDE
        start, end = _positions(offsets_T2, rows["answers"][i])
        yield {
            **{name: encoded[name][window] for name in encoded if name in _TYPES},
            "start_positions": start,
            "end_positions": end,
            "sample_ids": first_id + i,
            "offsets": offsets_T2.tolist(),
        }


def _check_room(
    questions: list[str],
    rows: dict[str, list[Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    doc_stride: int,
) -> None:
    """Refuse a question that leaves no room to move a window over its context, unless all of that fits beside it."""
    lengths = [len(tokens) for tokens in tokenizer(questions, add_special_tokens=False, verbose=False)["input_ids"]]
    special = tokenizer.num_special_tokens_to_add(pair=True)
    for i in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        taken = lengths[i] + special
        if max_length - taken > doc_stride:
            return  # and so do all that are shorter
        if len(tokenizer(questions[i], rows["context"][i], verbose=False)["input_ids"]) <= max_length:
            continue
        lower = f", or `data.doc_stride` to at most {max_length - taken - 1}" if max_length - taken > 1 else ""
        raise ValueError(
            f"Expected more than `data.doc_stride={doc_stride}` of `data.max_length={max_length}` tokens for the"
            f" context, got {max(0, max_length - taken)} next to question {rows['id'][i]!r} of {lengths[i]}: set"
            f" `data.max_length` to at least {taken + doc_stride + 1}{lower}."
        )


def _positions(offsets_T2: NDArray[np.int64], answers: dict[str, list[Any]]) -> tuple[int, int]:
    """Return the first and the last token of the answer, (0, 0) if the window does not hold all of it."""
    found = [(start, start + len(text)) for text, start in zip(answers["text"], answers["answer_start"], strict=True)]
    begin, end = next((pair for pair in found if pair[0] != NOWHERE), (0, 0))
    first_T, last_T = offsets_T2.T
    (touched,) = np.nonzero((first_T < end) & (last_T > begin) & (first_T != OUTSIDE))
    if touched.size == 0 or first_T[first_T != OUTSIDE][0] > begin or last_T.max() < end:
        return 0, 0
    return int(touched[0]), int(touched[-1])
