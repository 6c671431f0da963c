"""What one round of search is told, and what it counts."""

import math
from dataclasses import dataclass, field

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.criteria import Rule


@dataclass(frozen=True)
class Pruning:
    """Settings of accuracy-driven pruning.

    Args:
        neuron_groups: how many groups the intermediate neurons of a layer form.
        inspection_factor: the parts of a rejected block are tried where its loss is below this times the best.

    Raises:
        ValueError: if a setting is out of range.
    """

    neuron_groups: int = 12
    inspection_factor: float = 1.1

    def __post_init__(self) -> None:
        if self.neuron_groups < 1:
            raise ValueError(f"Expected `neuron_groups` to be at least 1, got {self.neuron_groups}.")
        if not 0 < self.inspection_factor < math.inf:
            raise ValueError(f"Expected `inspection_factor` to be a number above 0, got {self.inspection_factor}.")


DEFAULT_RULE = Rule()


@dataclass(frozen=True)
class SearchSettings:
    """Everything one round of search is told.

    Args:
        hard_attention: settings that are tried in every layer, or None to try none.
        pruning: settings of pruning, or None to prune nothing.
        rule: when a candidate is accepted.
        hard_rule: when hard attention is accepted, which never makes a model smaller; by default as ``rule``.
        full_scores: whether a candidate that cannot be accepted any more is evaluated to the end all the same.
        max_length: length to which the reference procedure would pad every sample; only for its count of work.

    Raises:
        ValueError: if there is nothing to try, or the two rules go by different metrics.
    """

    hard_attention: HardAttention | None = None
    pruning: Pruning | None = None
    rule: Rule = DEFAULT_RULE
    hard_rule: Rule | None = None
    full_scores: bool = False
    max_length: int | None = None

    def __post_init__(self) -> None:
        if self.hard_attention is None and self.pruning is None:
            raise ValueError("Expected hard attention, pruning or both to be searched for, got neither.")
        if self.hard_rule is not None and self.hard_rule.metric is not self.rule.metric:
            raise ValueError("Expected hard attention and pruning to be judged by the same metric, got two.")


@dataclass
class SearchCounts:
    """Work done by one search. What was taken over from a journal counts as when it was done.

    So the counts of a search that was killed and resumed are those of one that was not, without the candidate that
    was lost half-way and the base that was measured again.

    Args:
        candidates: candidates tried.
        accepted: candidates accepted.
        evaluations: passes over the search set that were begun.
        layer_tokens: tokens times layers run; a layer run in part counts by its share of multiply-adds.
        exhaustive_layer_tokens: what the reference procedure runs for the same candidates: every candidate
            through all layers, every sample padded to ``max_length``.
        seconds: how long it took, which is no part of a comparison.
    """

    candidates: int = 0
    accepted: int = 0
    evaluations: int = 0
    layer_tokens: float = 0.0
    exhaustive_layer_tokens: float = 0.0
    seconds: float = field(default=0.0, compare=False)
