"""Steps: from a batch to the loss of every sample in it.

Shape suffixes: ``N`` samples, ``T`` tokens, ``L`` labels.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from axformer_lightning.scoring.batches import IGNORED_LABEL

ADVICE = (
    "Give the LightningModule a method `axformer_step(self, batch)` that returns the loss of each sample, shape (N,),"
    " predictions and targets."
)


class Scored(NamedTuple):
    """What one batch comes to.

    Args:
        loss_N: loss of each sample.
        preds: predictions as torchmetrics takes them.
        target: what they are compared with.
    """

    loss_N: Tensor
    preds: Tensor
    target: Tensor


Step = Callable[[Any], Scored]


def step_of(module: nn.Module, problem_type: str | None = None) -> Step:
    """Return how the batches of ``module`` are scored: by what the module itself computes.

    In this order: its `axformer_step(batch)`; else the logits of `module(**batch)` with the batch's labels.

    Args:
        module: a Hugging Face model, or a LightningModule around one.
        problem_type: ``config.problem_type`` of the Hugging Face model, where it is set.

    Raises:
        TypeError: if the module has neither a step nor a forward.
    """
    own = getattr(module, "axformer_step", None)
    if own is not None:
        return lambda batch: _checked(own(batch))
    if not can_score(module):
        raise TypeError(f"Expected {type(module).__name__} to define `forward`, or: {ADVICE}")
    return lambda batch: _score_forward(module, batch, problem_type)


def can_score(module: nn.Module) -> bool:
    """Tell whether ``module`` defines a step or a forward of its own."""
    forward = type(module).forward
    inherited = getattr(forward, "__qualname__", "").split(".")[0] in (
        "LightningModule",
        "Module",
        "_forward_unimplemented",
    )
    return hasattr(module, "axformer_step") or not inherited


def score_logits(logits: Any, batch: Mapping[str, Tensor], problem_type: str | None = None) -> Scored:
    """Return the loss of each sample from a model's logits and a batch's labels.

    | logits | labels | task | loss of a sample |
    |---|---|---|---|
    | (N, L) | integers (N,) | classification | cross-entropy |
    | (N, 1) or (N,) | numbers (N,) or (N, 1) | regression | squared error |
    | (N, L) | floats (N, L) | multi-label, or regression by ``problem_type`` | mean over the labels |
    | (N, T, L) | integers (N, T) | token classification | mean cross-entropy over the labelled tokens |
    | start and end, (N, T) each | `start_positions`, `end_positions` (N,) | question answering | mean of the two |

    Args:
        logits: a tensor, or a pair of start and end logits.
        batch: holds the labels.
        problem_type: ``config.problem_type`` of the model, where it is set.

    Raises:
        ValueError: if there are no labels, or they do not go with the logits.

    Example:
        >>> score_logits(torch.tensor([[0.0, 0.0]]), {"labels": torch.tensor([1])}).loss_N
        tensor([0.6931])
    """
    if isinstance(logits, tuple):
        return _score_spans(logits[0], logits[1], batch)
    labels = batch.get("labels")
    if labels is None:
        raise ValueError(f"Expected `labels` in every batch of the search set, got {sorted(batch)}. {ADVICE}")
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
        f"Expected labels that go with logits of shape {tuple(logits.shape)}, got {labels.dtype} of shape"
        f" {tuple(labels.shape)}. {ADVICE}"
    )


def _score_tokens(logits_NTL: Tensor, labels_NT: Tensor) -> Scored:
    loss_NT = functional.cross_entropy(
        logits_NTL.transpose(1, 2), labels_NT, reduction="none", ignore_index=IGNORED_LABEL
    )
    real_NT = labels_NT != IGNORED_LABEL
    loss_N = loss_NT.sum(1) / real_NT.sum(1).clamp(min=1)
    return Scored(loss_N, logits_NTL.argmax(-1)[real_NT], labels_NT[real_NT])


def _score_spans(start_NT: Tensor, end_NT: Tensor, batch: Mapping[str, Tensor]) -> Scored:
    if "start_positions" not in batch or "end_positions" not in batch:
        raise ValueError(
            f"Expected `start_positions` and `end_positions` in every batch, got {sorted(batch)}. {ADVICE}"
        )
    # As transformers does: an answer outside the window counts for nothing.
    target_N2 = torch.stack([batch["start_positions"], batch["end_positions"]], 1).clamp(0, start_NT.shape[1])
    losses = [
        functional.cross_entropy(logits.float(), target, reduction="none", ignore_index=start_NT.shape[1])
        for logits, target in zip((start_NT, end_NT), target_N2.unbind(1), strict=True)
    ]
    return Scored((losses[0] + losses[1]) / 2, torch.stack([start_NT.argmax(1), end_NT.argmax(1)], 1), target_N2)


def _score_forward(module: nn.Module, batch: Any, problem_type: str | None) -> Scored:
    if not isinstance(batch, Mapping):
        raise TypeError(f"Expected a batch to be a dict of tensors, got {type(batch).__name__}. {ADVICE}")
    if "head_mask" in batch:
        raise ValueError(
            "Expected a batch without `head_mask`: transformers 5 ignores it and runs all heads. Remove heads with"
            " `apply_plan_`."
        )
    return score_logits(_logits(module(**_accepted(module, batch)), module), batch, problem_type)


def _accepted(module: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries that the module's forward takes; labels are left out for a Hugging Face model."""
    parameters = inspect.signature(module.forward).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    labels = ("labels", "start_positions", "end_positions") if isinstance(module, PreTrainedModel) else ()
    return {name: value for name, value in batch.items() if name not in labels and (open_ended or name in parameters)}


def _logits(output: Any, module: nn.Module) -> Any:
    if isinstance(output, Tensor) and output.dim() > 0:
        return output
    if isinstance(output, Mapping):
        if "logits" in output:
            return output["logits"]
        if "start_logits" in output and "end_logits" in output:
            return output["start_logits"], output["end_logits"]
    raise TypeError(
        f"Expected the output of {type(module).__name__} to be logits or to carry `logits`, got"
        f" {type(output).__name__}{list(output) if isinstance(output, Mapping) else ''}. {ADVICE}"
    )


def _checked(result: tuple[Tensor, Tensor, Tensor]) -> Scored:
    scored = Scored(*result)
    if scored.loss_N.dim() != 1:
        raise ValueError(
            f"Expected `axformer_step` to return the loss of each sample, shape (N,), got shape"
            f" {tuple(scored.loss_N.shape)}. Use `reduction='none'`."
        )
    return scored
