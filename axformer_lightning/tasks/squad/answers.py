"""From start and end logits to the best span of every question, over all of its windows.

Shape suffixes: ``W`` windows, ``T`` tokens, ``N`` questions, ``S`` starts, ``E`` ends.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_IMPOSSIBLE = float("-inf")


class Spans(NamedTuple):
    """The best span of every question, questions in the order in which they first appear.

    Args:
        sample_ids_N: which question.
        chars_N2: first character of the context and the one after the last; equal if there is no span.
        score_N: start logit plus end logit; 0 if there is no span.
        null_score_N: the same for the first token, in the window where it is lowest.
    """

    sample_ids_N: Tensor
    chars_N2: Tensor
    score_N: Tensor
    null_score_N: Tensor


def best_spans(
    start_WT: Tensor,
    end_WT: Tensor,
    offsets_WT2: Tensor,
    attention_mask_WT: Tensor,
    sample_ids_W: Tensor,
    *,
    n_best: int = 20,
    max_answer_length: int = 30,
) -> Spans:
    """Return the best span of every question, by the official BERT procedure.

    In every window the ``n_best`` best starts and ends are combined. Spans that lie in the context, end no earlier than
    they start and have at most ``max_answer_length`` tokens are scored by the sum of their logits. The best span of all
    windows wins.

    Args:
        start_WT: logits, shape (W, T).
        end_WT: logits, shape (W, T).
        offsets_WT2: characters of the context, shape (W, T, 2); negative for tokens outside it.
        attention_mask_WT: 0 for padding, shape (W, T).
        sample_ids_W: the question of each window, shape (W,).
        n_best: number of starts and ends that are combined in a window.
        max_answer_length: most tokens of an answer.

    Example:
        >>> start, end = torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[1.0, 2.0, 0.0]])
        >>> offsets = torch.tensor([[[-1, -1], [0, 2], [3, 8]]])
        >>> best_spans(start, end, offsets, torch.ones(1, 3), torch.tensor([7]))
        Spans(sample_ids_N=tensor([7]), chars_N2=tensor([[3, 8]]), score_N=tensor([3.]), null_score_N=tensor([2.]))
    """
    start_WT, end_WT = start_WT.float(), end_WT.float()
    null_W = start_WT[:, 0] + end_WT[:, 0]
    context_WT = (offsets_WT2[..., 0] >= 0) & attention_mask_WT.bool()
    starts_WS, ends_WE = (_best(logits, attention_mask_WT, n_best) for logits in (start_WT, end_WT))
    score_WSE = start_WT.gather(1, starts_WS)[:, :, None] + end_WT.gather(1, ends_WE)[:, None, :]
    in_context_WSE = context_WT.gather(1, starts_WS)[:, :, None] & context_WT.gather(1, ends_WE)[:, None, :]
    length_WSE = ends_WE[:, None, :] - starts_WS[:, :, None] + 1
    valid_WSE = in_context_WSE & (length_WSE >= 1) & (length_WSE <= max_answer_length)
    score_W, best_W = score_WSE.masked_fill(~valid_WSE, _IMPOSSIBLE).flatten(1).max(1)
    first_W = offsets_WT2[..., 0].gather(1, starts_WS.gather(1, (best_W // ends_WE.shape[1])[:, None]))[:, 0]
    last_W = offsets_WT2[..., 1].gather(1, ends_WE.gather(1, (best_W % ends_WE.shape[1])[:, None]))[:, 0]
    chars_W2 = torch.stack([first_W, last_W], 1)

    windows: dict[int, list[int]] = {}
    for window, sample in enumerate(sample_ids_W.tolist()):
        windows.setdefault(sample, []).append(window)
    scores, nulls = score_W.tolist(), null_W.tolist()
    best_N = torch.tensor([max(group, key=scores.__getitem__) for group in windows.values()], device=start_WT.device)
    least_N = torch.tensor([min(group, key=nulls.__getitem__) for group in windows.values()], device=start_WT.device)
    exists_N = score_W[best_N] > _IMPOSSIBLE
    return Spans(
        sample_ids_W[best_N],
        chars_W2[best_N] * exists_N[:, None],
        score_W[best_N].where(exists_N, 0.0),
        null_W[least_N],
    )


def _best(logits_WT: Tensor, attention_mask_WT: Tensor, n_best: int) -> Tensor:
    """Return the positions of the best logits, whatever the padding of the batch."""
    real_WT = logits_WT.masked_fill(attention_mask_WT == 0, _IMPOSSIBLE)
    return real_WT.topk(min(n_best, logits_WT.shape[1])).indices
