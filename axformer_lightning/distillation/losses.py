"""What a teacher adds to the loss.

Shape suffixes: ``N`` samples, ``T`` tokens, ``L`` labels, ``D`` width.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from axformer_lightning.distillation.settings import Distillation
from axformer_lightning.scoring.batches import IGNORED_LABEL
from axformer_lightning.scoring.names import entries_of

Logits = Tensor | tuple[Tensor, Tensor]  # of classes, numbers, labels or tokens; or of starts and ends


def logits_of(output: Any) -> Logits:
    """Return the logits in the output of a Hugging Face model, start and end logits as a pair.

    Raises:
        TypeError: if there are none.

    Example:
        >>> logits_of({"logits": torch.zeros(2, 3)}).shape
        torch.Size([2, 3])
    """
    named = entries_of(output) or {}
    if named.get("logits") is not None:
        logits: Tensor = named["logits"]
        return logits
    if named.get("start_logits") is not None and named.get("end_logits") is not None:
        return named["start_logits"], named["end_logits"]
    raise TypeError(
        f"Expected a model whose output has `logits`, or `start_logits` and `end_logits`, got {sorted(named)}. Use a"
        " Hugging Face model with a head, and leave `return_dict` on."
    )


def soft_loss(
    logits: Logits,
    taught: Logits,
    *,
    temperature: float = Distillation.temperature,
    problem_type: str | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """Return how far logits are from a teacher's.

    | logits | task | loss |
    |---|---|---|
    | (N, L) | classification | KL divergence of the softmaxes, teacher first |
    | (N, L), ``problem_type="multi_label_classification"`` | several labels | KL divergence of each label's yes or no |
    | else (N, 1) or (N,), or ``problem_type="regression"`` | regression | squared error |
    | (N, T, L) | token classification | as classification, over the labelled tokens |
    | start and end, (N, T) each | question answering | KL divergence over the positions, mean of the two |

    Where the task is a choice, logits are divided by the temperature, and the loss is multiplied by its square, so that
    gradients are about as large at any temperature. Source: arXiv 1503.02531, section 2.

    Args:
        logits: of the model that learns.
        taught: the teacher's, of the same shape.
        temperature: above 0.
        problem_type: ``config.problem_type`` of the model, if set.
        labels: for token classification; tokens without a label do not count.

    Returns:
        The mean over the batch, a scalar in float32.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> soft_loss(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 2.0]])).item()
        0.0
    """
    if isinstance(logits, tuple) or isinstance(taught, tuple):
        pairs = zip(_pair(logits), _pair(taught), strict=True)
        starts_and_ends = [soft_loss(one, other, temperature=temperature) for one, other in pairs]
        return torch.stack(starts_and_ends).mean()
    if logits.shape != taught.shape:
        raise ValueError(
            f"Expected logits of the teacher of the shape {tuple(logits.shape)}, got {tuple(taught.shape)}. Use a"
            " teacher of the same task."
        )
    logits, taught = logits.float(), taught.float()
    are_labels = problem_type == "multi_label_classification"  # also a single one, yes or no
    if problem_type == "regression" or (not are_labels and (logits.dim() == 1 or logits.shape[-1] == 1)):
        return functional.mse_loss(logits, taught)
    logits, taught = logits / temperature, taught / temperature
    if are_labels:
        sure = functional.binary_cross_entropy_with_logits(taught, taught.sigmoid())
        divergence = functional.binary_cross_entropy_with_logits(logits, taught.sigmoid()) - sure
    else:
        if logits.dim() == 3:
            real_NT = torch.ones_like(logits[..., 0], dtype=torch.bool) if labels is None else labels != IGNORED_LABEL
            logits, taught = logits[real_NT], taught[real_NT]
        total = functional.kl_div(logits.log_softmax(-1), taught.log_softmax(-1), reduction="sum", log_target=True)
        divergence = total / max(1, len(logits))
    return temperature**2 * divergence


def hidden_loss(
    hidden: Sequence[Tensor], taught: Sequence[Tensor], layers: Iterable[int], attention_mask: Tensor | None = None
) -> Tensor:
    """Return the mean squared error of hidden states, as a share of the mean square of the teacher's.

    A share, as families differ widely in the size of their hidden states. A cut keeps the number of layers, so the
    nearest layer of the teacher is the one with the same number. Compare arXiv 2204.00408, section 3.2.

    Args:
        hidden: of the model that learns, shape (N, T, D) each; embeddings first, as transformers returns them.
        taught: the teacher's.
        layers: numbers of the layers that count, 0 nearest the input.
        attention_mask: (N, T), 0 at padding, which does not count.

    Example:
        >>> states = [torch.ones(1, 2, 4), torch.ones(1, 2, 4)]
        >>> hidden_loss([state * 1.5 for state in states], states, [0])
        tensor(0.2500)
    """
    real_NT = torch.ones_like(hidden[0][..., 0], dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    shares = []
    for layer in layers:
        one, other = hidden[layer + 1][real_NT].float(), taught[layer + 1][real_NT].float()
        shares.append(functional.mse_loss(one, other) / other.square().mean())
    return torch.stack(shares).mean()


def mixed_loss(
    output: Any,
    taught: Logits,
    settings: Distillation,
    *,
    problem_type: str | None = None,
    entries: Mapping[str, Any] | None = None,
) -> Tensor:
    """Return the loss of the labels and the loss of the teacher's logits, each with its share.

    Args:
        output: of the model that learns, with a `loss` and logits.
        taught: the teacher's logits.
        settings: the shares and the temperature.
        problem_type: ``config.problem_type`` of the model, if set.
        entries: the batch, whose `labels` say which tokens count in token classification.

    Example:
        >>> output = {"loss": torch.tensor(4.0), "logits": torch.zeros(1, 2)}
        >>> mixed_loss(output, torch.zeros(1, 2), Distillation(alpha=0.75))
        tensor(1.)
    """
    loss: Tensor = (entries_of(output) or {})["loss"]
    soft = soft_loss(
        logits_of(output),
        taught,
        temperature=settings.temperature,
        problem_type=problem_type,
        labels=(entries or {}).get("labels"),
    )
    if settings.alpha in (0, 1):  # what has no share may be no number, as the loss of a batch without labels
        return soft if settings.alpha else loss
    return (1 - settings.alpha) * loss + settings.alpha * soft


def _pair(logits: Logits) -> tuple[Tensor, Tensor]:
    if isinstance(logits, tuple):
        return logits
    raise ValueError(
        f"Expected start and end logits of both models, got logits of shape {tuple(logits.shape)} from one. Use a"
        " teacher of the same task."
    )
