"""SEARCH, CUT: one round without a trainer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.plan import Plan
from axformer_lightning.replay import ALONE, Ranks
from axformer_lightning.search import JournalPath, OnTrial, SearchCounts, SearchSettings, search_plan
from axformer_lightning.surgery import Edit, cut_


@dataclass(frozen=True)
class Cut:
    """What a round has done to a model.

    Args:
        plan: what is left, and every decision so far.
        edits: what became of each parameter that was touched.
        counts: the work of the search.
    """

    plan: Plan
    edits: tuple[Edit, ...]
    counts: SearchCounts


def search_and_cut_(
    module: nn.Module,
    transformer: PreTrainedModel,
    batches: Sequence[Any],
    settings: SearchSettings,
    *,
    ranks: Ranks = ALONE,
    journal: JournalPath | None = None,
    on_trial: OnTrial = lambda trial: None,
) -> Cut:
    """Search for what a model can do without, and cut it.

    Args:
        module: what is scored: ``transformer`` itself, or the module around it.
        transformer: what is searched and cut.
        batches: the search set, as :func:`~axformer_lightning.scoring.search_batches` arranges it.
        settings: what is searched for and how it is judged.
        ranks: see :func:`~axformer_lightning.search.search_plan`.
        journal: see there.
        on_trial: see there.

    Raises:
        ValueError: as :func:`~axformer_lightning.find_plan` and :func:`~axformer_lightning.apply_plan_`; the model is
            then unchanged.

    Example:
        >>> import torch
        >>> from axformer_lightning.search import Pruning
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> model = BertForSequenceClassification(BertConfig(hidden_size=12, num_hidden_layers=1)).eval()
        >>> batch = {"input_ids": torch.tensor([[3, 5, 7], [4, 6, 8]]), "labels": torch.tensor([0, 1])}
        >>> cut = search_and_cut_(model, model, [batch], SearchSettings(pruning=Pruning()))
        >>> cut.plan == model.axformer_plan, cut.counts.candidates > 0
        (True, True)
    """
    plan, counts = search_plan(module, transformer, batches, settings, ranks=ranks, journal=journal, on_trial=on_trial)
    return Cut(plan, cut_(transformer, plan), counts)
