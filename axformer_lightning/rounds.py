"""SEARCH, CUT: one round without a trainer, by the search or to a budget."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn
from transformers import PreTrainedModel
from typing_extensions import Unpack

from axformer_lightning.anatomy import find_transformer
from axformer_lightning.basics import bf16_pays, copied
from axformer_lightning.budgets import Budget, shrink_
from axformer_lightning.plan import Plan, plan_of
from axformer_lightning.repair import apply_repair_
from axformer_lightning.replay import ALONE, Ranks
from axformer_lightning.scoring import checked_search_batches
from axformer_lightning.search import (
    PUBLISHED,
    Int8,
    JournalPath,
    OnTrial,
    SearchCounts,
    SearchOptions,
    SearchSettings,
    make_settings,
    score_of,
    search,
    spelled_out,
)
from axformer_lightning.surgery import Edit, check_can_cut, cut_, joined

logger = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)
TOLERANCE = 0.01  # of rounding, which moves every loss a little, up as often as down
ROUNDED: dict[str, Any] = PUBLISHED | {"majority": 0.0, "tolerance": TOLERANCE}


@dataclass(frozen=True)
class Cut:
    """What a round has done to a model.

    Args:
        plan: what is left, and every decision so far.
        edits: what became of each parameter that was touched.
        counts: the work of the search; of one to a budget its slices.
        repaired: names of the parameters that have other values than the cut alone would leave.
    """

    plan: Plan
    edits: tuple[Edit, ...]
    counts: SearchCounts
    repaired: frozenset[str] = frozenset()


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
    """Search for what a model can do without, cut it, and repair it where the settings say so.

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
    found = search(module, transformer, batches, settings, ranks=ranks, journal=journal, on_trial=on_trial)
    edits = cut_(transformer, found.plan)
    if found.repair is None:
        return Cut(found.plan, edits, found.counts)
    apply_repair_(transformer, found.repair)
    return Cut(found.plan, edits, found.counts, frozenset(found.repair.values))


@spelled_out(SearchOptions, ROUNDED)
def quantize(
    model: M,
    batches: Iterable[Any],
    *,
    embeddings: bool = Int8.embeddings,
    static: bool = Int8.static,
    **options: Unpack[SearchOptions],
) -> M:
    """Return a copy of a model with those blocks in int8 that the task does not miss in floats; nothing is trained.

    Every block is tried as any other candidate of a search. The copy computes with the rounding of int8, in floats, so
    it is no faster in PyTorch: its file is smaller, and an exported one is faster. The plan is its `axformer_plan`;
    the given model is unchanged.

    Args:
        model: a fine-tuned model, cut or not, as of :func:`~axformer_lightning.find_plan`.
        batches: the search set, as of `find_plan`.
        embeddings: whether the embeddings of words are tried, too.
        static: see :class:`~axformer_lightning.search.Int8`.
        options: see :class:`~axformer_lightning.search.SearchOptions`.

    Raises:
        ValueError: as `find_plan`; or if weights are not in float32.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 16}
        >>> model = BertForSequenceClassification(BertConfig(vocab_size=64, **sizes)).eval()
        >>> batch = {"input_ids": torch.arange(1, 61).view(6, 10), "labels": torch.tensor([0, 1] * 3)}
        >>> quantize(model, [batch], tolerance=0.5).axformer_plan.layers[0].int8
        ('embeddings', 'attention', 'feed_forward')
    """
    small = copied(model)
    transformer = find_transformer(small)
    settings = make_settings(None, None, ROUNDED | options, int8=Int8(embeddings, static))
    check_can_cut(transformer, None, prunes=False, rounds=True)  # what cannot be rounded need not be scored
    arranged = checked_search_batches(small, transformer, batches, settings.batch_tokens, settings.rule.metric)
    search_and_cut_(small, transformer, arranged, settings)
    return small


@spelled_out(SearchOptions, ROUNDED)
def in_bf16(model: M, batches: Iterable[Any], **options: Unpack[SearchOptions]) -> M:
    """Return a copy of a model in bfloat16, if that is faster here and the task does not miss the bits.

    Else the copy is as the model is. Which of the two is logged, with the reason.

    Args:
        model: a fine-tuned model in float32, as of :func:`~axformer_lightning.find_plan`.
        batches: the search set, as of `find_plan`.
        options: see :class:`~axformer_lightning.search.SearchOptions`.

    Raises:
        ValueError: as `find_plan`.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 16}
        >>> model = BertForSequenceClassification(BertConfig(vocab_size=64, **sizes)).eval()
        >>> batch = {"input_ids": torch.arange(1, 61).view(6, 10), "labels": torch.tensor([0, 1] * 3)}
        >>> in_bf16(model, [batch]).dtype in (torch.bfloat16, torch.float32)
        True
    """
    plain, settings = copied(model), make_settings(None, None, ROUNDED | options, int8=Int8(embeddings=False))
    transformer = find_transformer(plain)
    if not bf16_pays(transformer.device):
        return plain
    arranged = checked_search_batches(plain, transformer, batches, settings.batch_tokens, settings.rule.metric)
    halved = copied(plain).bfloat16()
    base, score = (score_of(one, find_transformer(one), arranged, settings) for one in (plain, halved))
    keeps = settings.rule.gains(score, base, base)
    said = "The mean loss on the search set is %.4f in bfloat16 and %.4f in float32: the copy is in %s."
    logger.info(said, score.loss, base.loss, "bfloat16" if keeps else "float32")
    return halved if keeps else plain


def shrink_to_(
    module: nn.Module, transformer: PreTrainedModel, batches: Sequence[Any], budget: Budget, *, ranks: Ranks = ALONE
) -> Cut:
    """Make a model smaller until it is within a budget, repaired.

    Args:
        module: what is scored: ``transformer`` itself, or the module around it.
        transformer: what is cut and repaired.
        batches: the search set, as :func:`~axformer_lightning.scoring.search_batches` arranges it.
        budget: what is to be reached.
        ranks: see :func:`~axformer_lightning.search.search_plan`.

    Raises:
        ValueError: as :func:`~axformer_lightning.shrink`.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> _ = torch.manual_seed(0)
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 16}
        >>> model = BertForSequenceClassification(BertConfig(vocab_size=64, **sizes)).eval()
        >>> batch = {"input_ids": torch.arange(1, 61).view(6, 10), "labels": torch.tensor([0, 1] * 3)}
        >>> cut = shrink_to_(model, model, [batch], Budget({"encoder_size_ratio": 2.5}))
        >>> cut.plan == model.axformer_plan, "bert.encoder.layer.0.output.dense.weight" in cut.repaired
        (True, True)
    """
    slices = list(shrink_(module, transformer, batches, budget, ranks=ranks))
    return Cut(
        plan_of(transformer),
        joined(edit for piece in slices for edit in piece.edits),
        SearchCounts(candidates=len(slices), accepted=len(slices)),
        frozenset(name for piece in slices for name in piece.repaired),
    )
