"""What a model answers, and how far its answers are from others.

A row of a batch asks for one choice, or for several: a class; a start and an end; a label for each token; yes or no for
each label.

Shape suffixes: ``N`` samples, ``W`` rows of a batch (windows of samples), ``K`` choices of a row, ``L`` alternatives.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from axformer_lightning.replay import ALONE, Ranks
from axformer_lightning.scoring import Loss, Scored, WithLogits, per_sample
from axformer_lightning.scoring.batches import IGNORED_LABEL

Answers = Sequence[Tensor] | None  # of each batch, or of nothing that gives any

CHOICES: Mapping[Loss, Callable[[Any], Tensor]] = {  # logits to (W, K, L)
    Loss.CLASSES: lambda logits_WL: logits_WL[:, None],
    Loss.SPANS: lambda starts_and_ends: torch.stack(starts_and_ends, 1),
    Loss.TOKENS: lambda logits_WTL: logits_WTL,
    Loss.LABELS: lambda logits_WL: torch.stack([logits_WL, torch.zeros_like(logits_WL)], -1),
}


def answers_of(results: Sequence[Scored], ranks: Ranks = ALONE) -> Answers:
    """Return the probabilities of all alternatives of each choice, one tensor ``(W, K, L)`` for each batch.

    Args:
        results: what batches came to.
        ranks: the processes that share the search set.

    Returns:
        Of numbers, of classifiers with a single class, and of modules that keep their logits to themselves, nothing; so
        it is if a single batch of any of the processes is none of choices.

    Example:
        >>> from axformer_lightning.scoring import score_logits
        >>> answers_of([score_logits(torch.zeros(1, 2), {"labels": torch.tensor([1])})])
        [tensor([[[0.5000, 0.5000]]])]
    """
    chosen = [_choices_of(scored) for scored in results if isinstance(scored, WithLogits) and scored.loss in CHOICES]
    ours = len(chosen) == len(results) and all(map(_are_choices, chosen))
    if not all(ours for (ours,) in ranks.gather([float(ours)])):
        return None
    return [choices_WKL.softmax(-1) for choices_WKL in chosen]


def divergence_of(scored: Scored, answers_WKL: Tensor) -> Tensor:
    """Return how far answers are from others, for each sample, shape ``(N,)``.

    The mean over the choices of a row, and over the rows of a sample. Of tokens only those with a label count.

    Source: the Kullback-Leibler divergence, as a teacher's answers are learned from (arXiv 1503.02531).

    Args:
        scored: the answers, with logits.
        answers_WKL: the others, to the same batch.

    Example:
        >>> from axformer_lightning.scoring import score_logits
        >>> scored = score_logits(torch.tensor([[1.0, 0.0]]), {"labels": torch.tensor([1])})
        >>> divergence_of(scored, answers_of([scored])[0]), divergence_of(scored, torch.tensor([[[0.5, 0.5]]]))
        (tensor([0.]), tensor([0.1201]))
    """
    assert isinstance(scored, WithLogits)  # as of what has answers
    own_WKL = _choices_of(scored).log_softmax(-1)
    far_WK = functional.kl_div(own_WKL, answers_WKL, reduction="none").sum(-1)
    if scored.loss is Loss.TOKENS:
        real_WK = scored.labels != IGNORED_LABEL
        far_W = torch.where(real_WK, far_WK, 0).sum(1) / real_WK.sum(1).clamp(min=1)
    else:
        far_W = far_WK.mean(1)
    return far_W if scored.sample_ids is None else per_sample(far_W, scored.sample_ids)


def _are_choices(choices_WKL: Tensor) -> bool:
    return choices_WKL.shape[-1] > 1 and bool(choices_WKL.isfinite().all())


def _choices_of(scored: WithLogits) -> Tensor:
    return CHOICES[scored.loss](scored.logits).float()
