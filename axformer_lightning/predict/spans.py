"""From start and end logits to answers.

Shape suffixes: ``W`` windows, ``T`` tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding

OUTSIDE = (-1, -1)


def spans_of(
    start_WT: NDArray[np.float32],
    end_WT: NDArray[np.float32],
    windows: Sequence[Sequence[Encoding]],
    contexts: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """Yield the best answer to every question, over all windows of its context.

    Args:
        start_WT: logits of the windows of all questions in a row, shape (W, T).
        end_WT: likewise.
        windows: the windows of each question, as they were tokenized.
        contexts: what the questions are asked of.

    Raises:
        ImportError: if the packages of the extra `app` are not installed, as answers are those of SQuAD's task.
    """
    try:
        from axformer_lightning.tasks.squad import best_spans  # takes seconds, and `datasets`
    except ImportError as error:
        raise ImportError(
            f"Expected the packages of the extra `app` to answer questions, {error.name!r} is not installed."
            " Do `pip install 'axformer-lightning[app]'`."
        ) from error
    flat = [encoding for group in windows for encoding in group]
    offsets_WT2 = np.full((*start_WT.shape, 2), OUTSIDE[0])
    mask_WT = np.zeros(start_WT.shape, dtype=np.int64)
    for w, encoding in enumerate(flat):
        mask_WT[w, : len(encoding.ids)] = encoding.attention_mask
        which = encoding.sequence_ids
        offsets_WT2[w, : len(which)] = [
            pair if text == 1 else OUTSIDE for pair, text in zip(encoding.offsets, which, strict=True)
        ]
    owners_W = [i for i, group in enumerate(windows) for _ in group]
    start, end, offsets, mask, owners = map(torch.as_tensor, (start_WT, end_WT, offsets_WT2, mask_WT, owners_W))
    spans = best_spans(start, end, offsets, mask, owners)
    for context, (first, last), score, null in zip(
        contexts, spans.chars_N2.tolist(), spans.score_N.tolist(), spans.null_score_N.tolist(), strict=True
    ):
        answer = context[first:last].strip()  # some tokenizers include the blank before a word
        begin = context.index(answer, first)
        yield {
            "answer": answer,
            "start": begin,
            "end": begin + len(answer),
            "score": round(score, 6),
            "no_answer_score": round(null - score, 6),
        }
