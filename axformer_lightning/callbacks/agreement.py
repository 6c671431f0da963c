"""What the callbacks that share a round agree on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from torchmetrics import Metric

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.criteria import Rule, make_rule
from axformer_lightning.finding import Pruning, SearchSettings

DEFAULTS = {
    "criterion": "loss",
    "metric": None,
    "majority": Rule.majority,
    "tolerance": Rule.tolerance,
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


def agreement(callbacks: Iterable[Searches]) -> dict[str, Any]:
    """Return the settings that callbacks of one round agree on.

    Raises:
        ValueError: if two of them say different things.
    """
    callbacks = list(callbacks)
    agreed = dict(DEFAULTS)
    for name in DEFAULTS:
        said = [callback.judged_by[name] for callback in callbacks if callback.judged_by[name] is not None]
        if not all(_same(value, said[0]) for value in said):
            raise ValueError(
                f"Expected the callbacks that share a model to agree on `{name}`, got {said}. Leave it out in"
                " HardAttentionCallback."
            )
        if said:
            agreed[name] = said[0]
    return agreed


def rule_of(callbacks: Iterable[Searches]) -> Rule:
    """Return the rule by which a round of these callbacks is judged.

    Raises:
        ValueError: if they contradict each other, or a setting is out of range.
    """
    agreed = agreement(callbacks)
    return make_rule(agreed["criterion"], agreed["metric"], agreed["majority"], agreed["tolerance"])


def settings_of(
    callbacks: Sequence[Searches], rule: Rule | None = None, max_length: int | None = None
) -> SearchSettings:
    """Return what a round of these callbacks searches for.

    Args:
        callbacks: one or both of the public ones.
        rule: when a candidate is accepted; by default what the callbacks say.
        max_length: see :class:`~axformer_lightning.finding.SearchSettings`.
    """
    own = [callback.settings for callback in callbacks]
    return SearchSettings(
        hard_attention=next((item for item in own if isinstance(item, HardAttention)), None),
        pruning=next((item for item in own if isinstance(item, Pruning)), None),
        rule=rule or rule_of(callbacks),
        max_length=max_length,
    )


def _same(value: Any, other: Any) -> bool:
    """Compare two settings; metrics by identity, as `==` of metrics makes a new metric."""
    return value is other or (not isinstance(value, Metric) and bool(value == other))
