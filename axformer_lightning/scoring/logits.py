"""From logits and labels to the loss of every sample.

Shape suffixes: ``N`` samples, ``W`` rows of a batch (windows of samples), ``T`` tokens, ``L`` labels.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from axformer_lightning.scoring.batches import IGNORED_LABEL
from axformer_lightning.scoring.names import ADVICE, SAMPLE_IDS, SPAN, labels_of


class Scored(NamedTuple):
    """The scores of one batch.

    Args:
        loss_N: loss of each sample.
        preds: predictions in the form torchmetrics takes.
        target: what they are compared with.
    """

    loss_N: Tensor
    preds: Tensor
    target: Tensor


class WithLogits(Scored):
    """The same, and the logits that it was made from.

    Example:
        >>> scored = Scored(torch.zeros(1), torch.zeros(1), torch.zeros(1))
        >>> WithLogits.of(scored, torch.ones(1, 2)).logits
        tensor([[1., 1.]])
    """

    logits: Any

    @classmethod
    def of(cls, scored: Scored, logits: Any) -> "WithLogits":
        """Return what was scored, with its logits."""
        made = cls(*scored)
        made.logits = logits
        return made


def score_logits(logits: Any, batch: Mapping[str, Any], problem_type: str | None = None) -> Scored:
    """Return the loss of each sample from a model's logits and a batch's labels.

    | logits | labels | task | loss of a sample |
    |---|---|---|---|
    | (N, L) | integers (N,) | classification | cross-entropy |
    | (N, 1) or (N,) | numbers (N,) or (N, 1) | regression | squared error |
    | (N, L) | floats (N, L) | multi-label, or regression by ``problem_type`` | mean over the labels |
    | (N, T, L) | integers (N, T) | token classification | mean cross-entropy over the labelled tokens |
    | start and end, (N, T) each | `start_positions`, `end_positions` (N,) | question answering | mean of the two |

    If the batch has an entry `sample_ids`, rows with the same number are one sample (the windows of a question), and
    its loss is their mean; there is still one prediction and one target per row.

    Args:
        logits: a tensor, or a pair of start and end logits.
        batch: holds the labels, as `labels`, `label`, `label_ids`, `targets`, `target` or `y`.
        problem_type: ``config.problem_type`` of the model, if set.

    Raises:
        ValueError: if there are no labels, or they do not match the logits.

    Example:
        >>> score_logits(torch.tensor([[0.0, 0.0]]), {"labels": torch.tensor([1])}).loss_N
        tensor([0.6931])
    """
    if isinstance(logits, tuple):
        scored = _score_spans(logits[0], logits[1], batch)
    else:
        scored = _score_rows(logits, labels_of(batch), problem_type)
    if batch.get(SAMPLE_IDS) is None:
        return scored
    return scored._replace(loss_N=per_sample(scored.loss_N, batch[SAMPLE_IDS]))


def per_sample(loss_W: Tensor, sample_ids_W: Tensor) -> Tensor:
    """Return the mean loss over the rows of each sample, samples in order of first appearance.

    Args:
        loss_W: loss of each row.
        sample_ids_W: integers; rows with the same number are one sample.

    Returns:
        The loss of each sample, shape ``(N,)``.

    Raises:
        ValueError: if there is not one integer per row.

    Example:
        >>> per_sample(torch.tensor([1.0, 4.0, 3.0]), torch.tensor([7, 2, 7]))
        tensor([2., 4.])
    """
    if sample_ids_W.shape != loss_W.shape or sample_ids_W.is_floating_point():
        raise ValueError(
            f"Expected `sample_ids` to be integers, one for each of the {len(loss_W)} rows of a batch, got"
            f" {sample_ids_W.dtype} of shape {tuple(sample_ids_W.shape)}."
        )
    ids_N = sample_ids_W.new_tensor(list(dict.fromkeys(sample_ids_W.tolist())))
    is_of_NW = ids_N[:, None] == sample_ids_W
    # Not `index_add`, which sums in no fixed order on a GPU: equal losses must stay equal.
    return torch.where(is_of_NW, loss_W, 0).sum(1) / is_of_NW.sum(1)


def _score_rows(logits: Tensor, labels: Tensor, problem_type: str | None) -> Scored:
    logits = logits.float()
    is_column = labels.shape[1:] == (1,) and problem_type != "multi_label_classification"
    if (labels.dim() == 1 or is_column) and (logits.dim() == 1 or logits.shape[1:] == (1,)):
        preds_N, labels_N = logits.reshape(-1), labels.reshape(-1).float()
        return Scored((preds_N - labels_N) ** 2, preds_N, labels_N)
    if labels.dim() == 1 and logits.dim() == 2 and not labels.is_floating_point():
        return Scored(functional.cross_entropy(logits, labels, reduction="none"), logits.argmax(-1), labels)
    if labels.is_floating_point() and labels.shape == logits.shape and problem_type == "regression":
        return Scored(((logits - labels) ** 2).flatten(1).mean(1), logits, labels)
    if labels.is_floating_point() and labels.shape == logits.shape:
        loss_NL = functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
        return Scored(loss_NL.mean(1), (logits > 0).long(), labels.long())
    if labels.dim() == 2 and logits.shape[:-1] == labels.shape:
        return _score_tokens(logits, labels)
    raise ValueError(
        f"Expected labels that match logits of shape {tuple(logits.shape)}, got {labels.dtype} of shape"
        f" {tuple(labels.shape)}. {ADVICE}"
    )


def _score_tokens(logits_NTL: Tensor, labels_NT: Tensor) -> Scored:
    loss_NT = functional.cross_entropy(
        logits_NTL.transpose(1, 2), labels_NT, reduction="none", ignore_index=IGNORED_LABEL
    )
    real_NT = labels_NT != IGNORED_LABEL
    loss_N = loss_NT.sum(1) / real_NT.sum(1).clamp(min=1)
    return Scored(loss_N, logits_NTL.argmax(-1)[real_NT], labels_NT[real_NT])


def _score_spans(start_NT: Tensor, end_NT: Tensor, batch: Mapping[str, Any]) -> Scored:
    if any(batch.get(name) is None for name in SPAN):
        raise ValueError(
            f"Expected `start_positions` and `end_positions` in every batch, got {sorted(batch)}. {ADVICE}"
        )
    # As in transformers: an answer outside the window adds no loss.
    target_N2 = torch.stack([batch[name] for name in SPAN], 1).clamp(0, start_NT.shape[1])
    losses = [
        functional.cross_entropy(logits.float(), target, reduction="none", ignore_index=start_NT.shape[1])
        for logits, target in zip((start_NT, end_NT), target_N2.unbind(1), strict=True)
    ]
    return Scored((losses[0] + losses[1]) / 2, torch.stack([start_NT.argmax(1), end_NT.argmax(1)], 1), target_N2)
