"""The options of a callback, and what the callbacks that share a round agree on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

from torchmetrics import Metric
from typing_extensions import TypedDict

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.budgets import Budget
from axformer_lightning.callbacks.search_set import METHOD, SearchSet
from axformer_lightning.search import PUBLISHED, Int8, Pruning, SearchOptions, SearchSettings, make_settings

OWN = ("majority", "tolerance")  # those by which each callback may judge in its own way


class Schedule(TypedDict, total=False):
    """When a callback searches, and on what.

    Args:
        retrain: ``"continue"`` with the weights, or ``"rewind"`` to those at the start of fit: repairs go, and the cut
            that was judged with them stays.
        first_epoch: epoch, counted from 0, at the end of whose validation the first round runs.
        rounds: how many rounds there are.
        every_n_epochs: epochs from one round to the next.
        search_dataloader: samples that decide, in batches; or a function that returns them, or a LightningDataModule.
            By default the method `search_dataloader` of the trainer's DataModule or of the module, or else the
            validation dataloader.
        model: dotted attribute path of the Hugging Face model, needed where the module holds several.
    """

    retrain: Literal["continue", "rewind"]
    first_epoch: int
    rounds: int
    every_n_epochs: int
    search_dataloader: SearchSet | None
    model: str | None


class CallbackOptions(SearchOptions, Schedule, total=False):
    """All options that the callbacks that search share."""


SCHEDULE: dict[str, Any] = {
    "first_epoch": 0,
    "rounds": 1,
    "every_n_epochs": 1,
    "search_dataloader": None,
    "model": None,
}
SHARED: dict[str, Any] = PUBLISHED | {  # what served best on real tasks (docs/rules.md)
    "criterion": "loss_and_metric",
    "majority": 0.0,
    "retrain": "continue",
}


class Searches(Protocol):
    """A callback that takes part in rounds."""

    @property
    def settings(self) -> HardAttention | Pruning | Int8 | Budget:
        """What it searches for."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The options it was given."""


def agreed(callbacks: Iterable[Searches]) -> dict[str, Any]:
    """Return all options that callbacks of one model share: those given, and the defaults of the others.

    Of what each may judge in its own way, the first callback's count. There is one search set, too, for all; it is left
    out.

    Raises:
        ValueError: if two of them say different things.
    """
    given: dict[str, Any] = {}
    for callback in callbacks:
        for name in (SHARED.keys() | {METHOD}) & callback.options.keys():
            value = callback.options[name]
            if name not in OWN and not _same(value, given.get(name, value)):
                both = [type(one).__name__ if name == METHOD else one for one in (given[name], value)]
                raise ValueError(
                    f"Expected the callbacks that share a model to agree on `{name}`, got {both}. Leave it out in all"
                    " but one."
                )
            given.setdefault(name, value)
    given.pop(METHOD, None)
    return SHARED | given


def settings_of(
    callbacks: Sequence[Searches], partners: Sequence[Searches], max_length: int | None = None
) -> SearchSettings:
    """Return what a round of these callbacks searches for.

    Args:
        callbacks: those that take part in the round.
        partners: all callbacks that share the model, including those that take part.
        max_length: see :class:`~axformer_lightning.search.SearchSettings`.

    Raises:
        ValueError: if they disagree, or an option is out of range.
    """
    found: dict[type, Any] = {type(callback.settings): callback.settings for callback in callbacks}
    leading = next((callback for callback in callbacks if isinstance(callback.settings, Pruning)), callbacks[0])
    options = agreed([leading, *partners])
    searched = found.get(HardAttention), found.get(Pruning)
    settings = make_settings(*searched, options, int8=found.get(Int8), max_length=max_length)
    for kind, rule in ((HardAttention, "hard_rule"), (Int8, "int8_rule")):
        for callback in callbacks:
            if isinstance(callback.settings, kind) and callback is not leading:
                own = agreed([callback, *partners])
                rules: dict[str, Any] = {rule: replace(settings.rule, **{name: own[name] for name in OWN})}
                settings = replace(settings, **rules)
    return settings


def steps_of_round(callbacks: Sequence[Searches], partners: Sequence[Searches]) -> list[SearchSettings | Budget]:
    """Return what callbacks do in one round, one after another: search, then down to a budget, and last int8.

    Int8 has a search of its own where something is repaired, as what is rounded has to be repaired before.

    Args:
        callbacks: as of :func:`settings_of`.
        partners: as of :func:`settings_of`.

    Raises:
        ValueError: as :func:`settings_of`.
    """
    budgets: list[SearchSettings | Budget] = [c.settings for c in callbacks if isinstance(c.settings, Budget)]
    searching, others = ([c for c in some if not isinstance(c.settings, Budget)] for some in (callbacks, partners))
    repairs = budgets or any(isinstance(c.settings, Pruning) and c.settings.repair for c in searching)
    last = [c for c in searching if repairs and isinstance(c.settings, Int8)]
    first = [c for c in searching if c not in last]
    found, rounded = ([settings_of(some, others)] if some else [] for some in (first, last))
    return [*found, *budgets, *rounded]


def _same(value: Any, other: Any) -> bool:
    """Compare two options; metrics and batches by identity, as `==` would make a new metric, or compare tensors."""
    by_identity = isinstance(value, Metric) or (hasattr(value, "__iter__") and not isinstance(value, str))
    return value is other or (not by_identity and bool(value == other))
