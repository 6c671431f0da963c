"""From logits and labels to the loss of every sample.

Shape suffixes: ``N`` samples, ``W`` rows of a batch (windows of samples), ``T`` tokens, ``L`` labels.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from axformer_lightning.scoring.batches import IGNORED_LABEL
from axformer_lightning.scoring.names import ADVICE, SAMPLE_IDS, SPAN, labels_of


class Loss(StrEnum):
    """Which loss it is, in words."""

    CLASSES = "cross-entropy"
    TOKENS = "cross-entropy of the labelled tokens"
    SPANS = "cross-entropy of start and end"
    LABELS = "binary cross-entropy over the labels"
    NUMBERS = "squared error"


class Scored(NamedTuple):
    """The scores of one batch.

    Args:
        loss_N: loss of each sample.
        preds: predictions in the form torchmetrics takes.
        target: what they are compared with.
    """

    loss_N: Tensor
    preds: Any
    target: Any


class WithLogits(Scored):
    """The same, and the logits that it was made from.

    Attributes:
        logits: of the module's forward.
        labels: of the batch.
        loss: which loss it is.
        mean: what a module that averages over all rows, or over all labelled tokens, would return.
        counted: which rows of the batch have a label; all else is of these alone.
        sample_ids: of the batch, if it has some: rows with the same number are one sample.

    Example:
        >>> score_logits(torch.tensor([1.0, 2.0]), {"labels": torch.tensor([1.0, 4.0])}).loss.value
        'squared error'
    """

    logits: Any
    labels: Any
    loss: Loss
    mean: Tensor
    counted: Tensor
    sample_ids: Tensor | None

    @classmethod
    def of(cls, scored: Scored, **made_from: Any) -> "WithLogits":
        """Return what was scored, with what it was made from."""
        made = cls(*scored)
        vars(made).update(made_from)
        return made

    def judged_by(self, preds: Any, target: Any) -> "WithLogits":
        """Return the same losses with predictions and targets of another form, for another metric.

        Example:
            >>> scored = score_logits(torch.zeros(1, 2), {"labels": torch.tensor([1])})
            >>> scored.judged_by(["no"], ["yes"]).preds
            ['no']
        """
        return self.of(Scored(self.loss_N, preds, target), **vars(self))


def score_logits(logits: Any, batch: Mapping[str, Any], problem_type: str | None = None) -> WithLogits:
    """Return the loss of each sample from a model's logits and a batch's labels.

    | logits | labels | task | loss of a sample |
    |---|---|---|---|
    | (N, L) | integers (N,) or (N, 1) | classification | cross-entropy |
    | (N, 1) or (N,) | numbers (N,) or (N, 1) | regression | squared error |
    | (N, L) | floats (N, L) | multi-label, or regression by ``problem_type`` | mean over the labels |
    | (N, T, L) | integers (N, T) | token classification | mean cross-entropy over the labelled tokens |
    | start and end, (N, T) each | `start_positions`, `end_positions` (N,), (N, 1) | question answering | mean of both |

    As in torch and transformers a class of -100 stands for none: such a row, or a row of tokens that all have it, is
    left out, of predictions and targets, too.

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
        scored, loss, mean = _score_spans(logits[0], logits[1], batch)
        labels, counted_W = None, torch.ones_like(scored.loss_N, dtype=torch.bool)
    else:
        labels = labels_of(batch)
        counted_W = _counted(logits, labels)
        if not counted_W.all():
            logits, labels = logits[counted_W], labels[counted_W]
        scored, loss, mean = _score_rows(logits.float(), labels, problem_type)
    if (ids_W := batch.get(SAMPLE_IDS)) is not None:
        ids_W = ids_W[counted_W] if ids_W.shape == counted_W.shape else ids_W  # others are refused
        scored = scored._replace(loss_N=per_sample(scored.loss_N, ids_W))
    return WithLogits.of(
        scored, logits=logits, labels=labels, loss=loss, mean=mean, counted=counted_W, sample_ids=ids_W
    )


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


Found = tuple[Scored, Loss, Tensor]  # the scores, which loss it is, and the mean as a module would take it


def _counted(logits: Tensor, labels: Tensor) -> Tensor:
    """Tell which rows have a label: where labels are classes, of the row or of its tokens, one that is not -100."""
    of_classes = not labels.is_floating_point() and logits.shape[1:] not in ((), (1,))
    if not of_classes or labels.dim() == 0 or len(labels) != len(logits):
        return torch.ones(logits.shape[:1], dtype=torch.bool, device=logits.device)
    return (labels != IGNORED_LABEL).reshape(len(labels), -1).any(1)


def _score_rows(logits: Tensor, labels: Tensor, problem_type: str | None) -> Found:
    is_column = labels.shape[1:] == (1,) and problem_type != "multi_label_classification"
    is_whole = not labels.is_floating_point()
    if (labels.dim() == 1 or is_column) and (logits.dim() == 1 or logits.shape[1:] == (1,)):
        preds_N, labels_N = logits.reshape(-1), labels.reshape(-1).float()
        return _of_rows((preds_N - labels_N) ** 2, preds_N, labels_N, Loss.NUMBERS)
    if (labels.dim() == 1 or is_column) and logits.dim() == 2 and is_whole:
        labels_N = labels.reshape(-1).long()
        loss_N = functional.cross_entropy(logits, labels_N, reduction="none")
        return _of_rows(loss_N, logits.argmax(-1), labels_N, Loss.CLASSES)
    if not is_whole and labels.shape == logits.shape and problem_type == "regression":
        return _of_rows(((logits - labels) ** 2).flatten(1).mean(1), logits, labels, Loss.NUMBERS)
    if not is_whole and labels.shape == logits.shape:
        loss_NL = functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
        return _of_rows(loss_NL.mean(1), (logits > 0).long(), labels.long(), Loss.LABELS)
    if labels.dim() == 2 and is_whole and logits.shape[:-1] == labels.shape:
        return _score_tokens(logits, labels.long())
    raise ValueError(
        f"Expected labels that match logits of shape {tuple(logits.shape)}, got {labels.dtype} of shape"
        f" {tuple(labels.shape)}. {ADVICE}"
    )


def _of_rows(loss_N: Tensor, preds: Tensor, target: Tensor, loss: Loss) -> Found:
    return Scored(loss_N, preds, target), loss, loss_N.mean()


def _score_tokens(logits_NTL: Tensor, labels_NT: Tensor) -> Found:
    loss_NT = functional.cross_entropy(
        logits_NTL.transpose(1, 2), labels_NT, reduction="none", ignore_index=IGNORED_LABEL
    )
    real_NT = labels_NT != IGNORED_LABEL
    loss_N = loss_NT.sum(1) / real_NT.sum(1).clamp(min=1)
    scored = Scored(loss_N, logits_NTL.argmax(-1)[real_NT], labels_NT[real_NT])
    return scored, Loss.TOKENS, loss_NT.sum() / real_NT.sum()


def _score_spans(start_NT: Tensor, end_NT: Tensor, batch: Mapping[str, Any]) -> Found:
    if any(batch.get(name) is None for name in SPAN):
        raise ValueError(
            f"Expected `start_positions` and `end_positions` in every batch, got {sorted(batch)}. Pass a search set"
            f" with labels (`search_dataloader=` of the callbacks), or: {ADVICE}"
        )
    # As in transformers: positions may be a column, and an answer outside the window adds no loss.
    outside = start_NT.shape[1]
    target_N2 = torch.stack([batch[name].reshape(len(start_NT)).long() for name in SPAN], 1).clamp(0, outside)
    both = list(zip((start_NT, end_NT), target_N2.unbind(1), strict=True))
    losses = [
        functional.cross_entropy(logits.float(), target, reduction="none", ignore_index=outside)
        for logits, target in both
    ]
    means = [loss_N.sum() / (target != outside).sum() for loss_N, (_, target) in zip(losses, both, strict=True)]
    scored = Scored((losses[0] + losses[1]) / 2, torch.stack([start_NT.argmax(1), end_NT.argmax(1)], 1), target_N2)
    return scored, Loss.SPANS, (means[0] + means[1]) / 2
