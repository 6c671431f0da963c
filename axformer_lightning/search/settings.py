"""What one round of search is told, and what it counts."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.basics import check_types
from axformer_lightning.criteria import Rule
from axformer_lightning.scoring import BATCH_TOKENS

EarlyStop = Literal["exact", "statistical"]
Strategy = Literal["reference", "best_first"]


@dataclass(frozen=True)
class Pruning:
    """Settings of accuracy-driven pruning.

    Args:
        neuron_groups: how many groups the intermediate neurons of a layer form; without repair.
        inspection_factor: the parts of a rejected block are tried where its loss is below this times the best; without
            repair, with which they always are.
        strategy: ``"reference"``, from the last layer to the first; or ``"best_first"``, by what the loss is predicted
            to change by: blocks, and without repair the parts of each.
        sweeps: how often what is left is tried, at most, while something is accepted; None for as often as it takes.
        repair: whether a candidate is judged as it would be left, repaired by least squares, and blocks that cannot go
            are tried at some widths, the narrowest first, instead of without single parts.

    Raises:
        ValueError: if a setting is out of range.
    """

    neuron_groups: int = 12
    inspection_factor: float = 1.1
    strategy: Strategy = "reference"
    sweeps: int | None = 1
    repair: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if self.neuron_groups < 1:
            raise ValueError(f"Expected `neuron_groups` to be at least 1, got {self.neuron_groups}.")
        if not 0 < self.inspection_factor < math.inf:
            raise ValueError(f"Expected `inspection_factor` to be a number above 0, got {self.inspection_factor}.")
        if self.strategy not in get_args(Strategy):
            raise ValueError(f"Expected `strategy` to be 'reference' or 'best_first', got {self.strategy!r}.")
        if self.sweeps is not None and self.sweeps < 1:
            raise ValueError(f"Expected `sweeps` to be at least 1, or None for as many as it takes, got {self.sweeps}.")


@dataclass(frozen=True)
class Int8:
    """Settings of the search for what can be in int8.

    Args:
        embeddings: whether the embeddings of words are tried, too.
        static: whether the range of what a linear layer reads is measured once, on the search set, instead of in each
            call. Predictions then do not depend on what else is in a batch.
    """

    embeddings: bool = True
    static: bool = False

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class Shortcuts:
    """Work that the search may spare itself; none changes a decision.

    Args:
        share_blocks: whether what the candidates of one block have in common is computed once.
        first_token: whether, where nothing but the first token is read, nothing but what it needs is computed.
    """

    share_blocks: bool = True
    first_token: bool = True


DEFAULT_RULE = Rule()
DEFAULT_SHORTCUTS = Shortcuts()


@dataclass(frozen=True)
class SearchSettings:
    """Everything one round of search is told.

    Args:
        hard_attention: settings that are tried in every layer, or None to try none.
        pruning: settings of pruning, or None to prune nothing.
        rule: when a candidate is accepted.
        hard_rule: when hard attention is accepted, which never makes a model smaller; by default as ``rule``.
        full_scores: whether a candidate that cannot be accepted any more is evaluated to the end all the same.
        early_stop: ``"exact"``: a candidate is left as soon as nothing can accept it any more; ``"statistical"``: as
            soon as that is unlikely.
        confidence: of the statistical stop.
        batch_tokens: most tokens evaluated at once, where batches are made for the search.
        max_length: length to which the reference procedure would pad every sample; only for its count of work.
        cache_memory: bytes of each process for what is kept from one evaluation to the next; by default the processes
            take a quarter of what is free.
        shortcuts: what work is spared.
        int8: settings of what is tried in int8, or None to try nothing.
        int8_rule: when int8 is accepted; by default as ``rule``.

    Raises:
        ValueError: if there is nothing to try, or the two rules go by different metrics.
    """

    hard_attention: HardAttention | None = None
    pruning: Pruning | None = None
    rule: Rule = DEFAULT_RULE
    hard_rule: Rule | None = None
    full_scores: bool = False
    early_stop: EarlyStop = "exact"
    confidence: float = 0.95
    batch_tokens: int = BATCH_TOKENS
    max_length: int | None = None
    cache_memory: int | None = None
    shortcuts: Shortcuts = DEFAULT_SHORTCUTS
    int8: Int8 | None = None
    int8_rule: Rule | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if self.hard_attention is None and self.pruning is None and self.int8 is None:
            raise ValueError("Expected hard attention, pruning, int8 or several to be searched for, got none.")
        if any(rule is not None and rule.metric is not self.rule.metric for rule in (self.hard_rule, self.int8_rule)):
            raise ValueError("Expected all that is searched for to be judged by the same metric, got two.")
        if self.int8 is not None and self.pruning is not None and self.pruning.repair:
            raise ValueError(
                "Expected int8 in a later search than pruning with repair, got both in one: what is rounded has to be"
                " repaired before. Search twice."
            )
        if self.early_stop not in get_args(EarlyStop):
            raise ValueError(f"Expected `early_stop` to be 'exact' or 'statistical', got {self.early_stop!r}.")
        if self.early_stop == "statistical" and (self.full_scores or self.rule.loss_clause is None):
            raise ValueError(
                "Expected early_stop='statistical' without `full_scores` and without a metric that decides alone, which"
                " have every candidate evaluated to the end. Use early_stop='exact'."
            )
        if not 0 < self.confidence < 1:
            raise ValueError(f"Expected `confidence` above 0 and below 1, got {self.confidence}.")
        if self.batch_tokens < 1:
            raise ValueError(f"Expected `batch_tokens` to be at least 1, got {self.batch_tokens}.")
        if self.cache_memory is not None and self.cache_memory < 0:
            raise ValueError(f"Expected `cache_memory` to be a number of bytes of at least 0, got {self.cache_memory}.")


@dataclass
class SearchCounts:
    """Work done by one search. What was taken over from a journal counts as when it was done.

    So the counts of a search that was killed and resumed are those of one that was not, but for what has to be run
    anew because it was lost with the process: the base, the candidate that was tried, what was kept of others.

    Args:
        candidates: candidates tried.
        accepted: candidates accepted.
        evaluations: passes over the search set that were begun.
        layer_tokens: tokens times layers run; a layer run in part counts by its share of multiply-adds. No part of a
            comparison, nor is ``seconds``.
        exhaustive_layer_tokens: what the reference procedure runs for the same candidates: every candidate
            through all layers, every sample padded to ``max_length``.
        seconds: how long it took.
        kept_bytes: most bytes that this process kept from one evaluation to the next.
    """

    candidates: int = 0
    accepted: int = 0
    evaluations: int = 0
    layer_tokens: float = field(default=0.0, compare=False)
    exhaustive_layer_tokens: float = 0.0
    seconds: float = field(default=0.0, compare=False)
    kept_bytes: int = field(default=0, compare=False)
