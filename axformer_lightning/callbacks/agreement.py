"""What the callbacks that share a round agree on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from torchmetrics import Metric

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.criteria import Rule, make_rule
from axformer_lightning.search import Pruning, SearchSettings

CRITERION, MAJORITY = "loss_and_metric", 0.0  # what served best on real tasks (docs/rules.md)
DEFAULTS: dict[str, Any] = {
    "criterion": CRITERION,
    "metric": None,
    "majority": MAJORITY,
    "tolerance": Rule.tolerance,
    "vote": Rule.vote,
    "full_scores": SearchSettings.full_scores,
    "early_stop": SearchSettings.early_stop,
    "confidence": SearchSettings.confidence,
    "batch_tokens": SearchSettings.batch_tokens,
    "cache_memory": SearchSettings.cache_memory,
    "retrain": "continue",
}


class Searches(Protocol):
    """A callback that takes part in rounds.

    `judged_by` has the keys of :data:`DEFAULTS`; None is as the other callback's, or the default.
    """

    @property
    def settings(self) -> HardAttention | Pruning:
        """What it searches for."""

    @property
    def judged_by(self) -> Mapping[str, Any]:
        """How candidates are judged."""


def agreement(callbacks: Iterable[Searches], name: str) -> Any:
    """Return what all callbacks of one round say of a setting, or its default.

    Raises:
        ValueError: if two of them say different things.
    """
    said = [callback.judged_by[name] for callback in callbacks if callback.judged_by[name] is not None]
    if not all(_same(value, said[0]) for value in said):
        raise ValueError(
            f"Expected the callbacks that share a model to agree on `{name}`, got {said}. Leave it out in"
            " HardAttentionCallback."
        )
    return said[0] if said else DEFAULTS[name]


def rule_of(callback: Searches, partners: Sequence[Searches]) -> Rule:
    """Return the rule by which a callback accepts: its own settings, its partners' for those that it leaves at None.

    Raises:
        ValueError: if they disagree on what is compared, or a setting is out of range.
    """
    majority, tolerance = (
        next((c.judged_by[name] for c in (callback, *partners) if c.judged_by[name] is not None), DEFAULTS[name])
        for name in ("majority", "tolerance")
    )
    criterion, metric, vote = (agreement(partners, name) for name in ("criterion", "metric", "vote"))
    return make_rule(criterion, metric, majority, tolerance, vote)


def settings_of(
    callbacks: Sequence[Searches], partners: Sequence[Searches], max_length: int | None = None
) -> SearchSettings:
    """Return what a round of these callbacks searches for.

    Args:
        callbacks: those that take part in the round.
        partners: all callbacks that share the model, those that take part among them.
        max_length: see :class:`~axformer_lightning.search.SearchSettings`.
    """
    hard = next((callback for callback in callbacks if isinstance(callback.settings, HardAttention)), None)
    pruning = next((callback for callback in callbacks if isinstance(callback.settings, Pruning)), None)
    rule = rule_of(pruning or callbacks[0], partners)
    return SearchSettings(
        hard_attention=hard.settings if hard and isinstance(hard.settings, HardAttention) else None,
        pruning=pruning.settings if pruning and isinstance(pruning.settings, Pruning) else None,
        rule=rule,
        hard_rule=replace(rule_of(hard, partners), metric=rule.metric) if hard else None,
        full_scores=agreement(partners, "full_scores"),
        early_stop=agreement(partners, "early_stop"),
        confidence=agreement(partners, "confidence"),
        batch_tokens=agreement(partners, "batch_tokens"),
        cache_memory=agreement(partners, "cache_memory"),
        max_length=max_length,
    )


def _same(value: Any, other: Any) -> bool:
    """Compare two settings; metrics by identity, as `==` of metrics makes a new metric."""
    return value is other or (not isinstance(value, Metric) and bool(value == other))
