"""The options of a search, defined once: keywords, types, meanings and defaults."""

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from torchmetrics import Metric
from typing_extensions import TypedDict, get_original_bases, is_typeddict

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.criteria import Rule, Vote, make_rule
from axformer_lightning.search.settings import EarlyStop, Int8, Pruning, SearchSettings

T = TypeVar("T", bound=Callable[..., Any])


class SearchOptions(TypedDict, total=False):
    """How candidates are judged, and what the search may use.

    Args:
        criterion: what has to get better: ``"loss"``, the mean loss; ``"metric"``; ``"loss_and_metric"``, the mean
            loss while the metric does not fall; or a torchmetrics metric.
        metric: the metric that ``"metric"`` and ``"loss_and_metric"`` stand for; by default
            :class:`~axformer_lightning.criteria.LabelAccuracy`. With ``"loss"`` it decides nothing, and is measured and
            reported with every decision; with a metric as criterion that one stands in its place.
        majority: the share of samples of which strictly more must be not worse; 0 switches the vote off.
        tolerance: how far the total may fall behind the fine-tuned model: a share of the mean loss, an absolute drop
            of the metric.
        vote: when a sample is worse: ``"loss"``, if its loss is higher; ``"prediction"``, if its prediction turns
            wrong.
        full_scores: whether candidates that can no longer be accepted are evaluated to the end, so that every decision
            carries its scores.
        early_stop: when an evaluation stops early: ``"exact"``, once nothing can accept the candidate any more, which
            changes no decision; ``"statistical"``, once that is unlikely.
        confidence: with which ``"statistical"`` does not stop a candidate that would be accepted.
        batch_tokens: most tokens evaluated at once, where samples are batched for the search; on a GPU more are faster.
        cache_memory: bytes of each process for what is cached from one candidate to the next; None for a quarter of
            what is free. Changes no decision.
    """

    criterion: str | Metric
    metric: Metric | None
    majority: float
    tolerance: float
    vote: Vote
    full_scores: bool
    early_stop: EarlyStop
    confidence: float
    batch_tokens: int
    cache_memory: int | None


PUBLISHED: dict[str, Any] = {
    "criterion": Rule.criterion,
    "metric": Rule.metric,
    "majority": Rule.majority,
    "tolerance": Rule.tolerance,
    "vote": Rule.vote,
    "full_scores": SearchSettings.full_scores,
    "early_stop": SearchSettings.early_stop,
    "confidence": SearchSettings.confidence,
    "batch_tokens": SearchSettings.batch_tokens,
    "cache_memory": SearchSettings.cache_memory,
}
JUDGING = ("criterion", "metric", "majority", "tolerance", "vote")  # go into the rule, the others into the settings


def make_settings(
    hard_attention: HardAttention | None,
    pruning: Pruning | None,
    options: Mapping[str, Any],
    *,
    int8: Int8 | None = None,
    max_length: int | None = None,
) -> SearchSettings:
    """Return the settings that a user's options describe.

    Args:
        hard_attention: settings that are tried in every layer, or None.
        pruning: settings of pruning, or None.
        options: all of :class:`SearchOptions`.
        int8: settings of what is tried in int8, or None.
        max_length: see :class:`SearchSettings`.

    Raises:
        ValueError: if an option is out of range.

    Example:
        >>> make_settings(None, Pruning(), {**PUBLISHED, "tolerance": 0.05}).rule
        Rule(majority=0.5, tolerance=0.05, metric=None, vote='loss', criterion='loss')
    """
    rule = make_rule(**{name: options[name] for name in JUDGING})
    others = {name: options[name] for name in PUBLISHED if name not in JUDGING}
    return SearchSettings(hard_attention, pruning, rule, max_length=max_length, int8=int8, **others)


def spelled_out(options: type, defaults: Mapping[str, Any]) -> Callable[[T], T]:
    """Return a decorator for what takes ``**options``: its signature, checks and docs name each of them.

    An editor and mypy read the names from ``Unpack``; this is for whoever asks at run time: `help`, LightningCLI, the
    configuration of train.py. The line of the docstring that begins with ``options:`` is replaced.

    Args:
        options: a TypedDict, its keys described under ``Args``.
        defaults: of every key.

    Example:
        >>> @spelled_out(SearchOptions, PUBLISHED)
        ... def search(**options): ...
        >>> inspect.signature(search).parameters["confidence"].default
        0.95
        >>> search(tolerence=0.1)
        Traceback (most recent call last):
        TypeError: search() got an unexpected keyword argument 'tolerence'
    """

    def decorate(it: T) -> T:
        function = it.__init__ if isinstance(it, type) else it  # type: ignore[misc]
        named = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        signature = inspect.Signature(
            [
                *named,
                *(
                    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=hint)
                    for name, hint in get_type_hints(options).items()
                ),
            ]
        )

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{it.__name__}() {error}") from None
            return function(*args, **kwargs)

        checked.__signature__ = signature  # type: ignore[attr-defined]
        checked.__doc__ = _with_options(function.__doc__, options)
        if not isinstance(it, type):
            return checked  # type: ignore[return-value]
        it.__init__, it.__doc__ = checked, _with_options(it.__doc__, options)  # type: ignore[misc]
        return it

    return decorate


def meanings(options: type) -> dict[str, str]:
    """Return what the docstring of a class says of each argument; of a TypedDict with those that it extends.

    Example:
        >>> meanings(SearchOptions)["vote"][:40]
        'when a sample is worse: ``"loss"``, if i'
    """
    found: dict[str, str] = {}
    for base in get_original_bases(options) if is_typeddict(options) else ():
        found |= meanings(base) if is_typeddict(base) else {}
    arguments = inspect.cleandoc(options.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(arguments)):
        name, _, meaning = entry.partition(": ")
        found[name] = " ".join(meaning.split())
    return found


def _with_options(doc: str | None, options: type) -> str | None:
    """Return a docstring with the meaning of every option in the place of the line ``options: ...``."""

    def spelled(line: re.Match[str]) -> str:
        wrap = functools.partial(
            textwrap.fill, width=120, initial_indent=line[1], subsequent_indent=line[1] + "    ", break_on_hyphens=False
        )
        return "\n".join(wrap(f"{name}: {meaning}") for name, meaning in meanings(options).items())

    return doc and re.sub(r"^( *)options: .*(?:\n\1 +.*)*", spelled, doc, count=1, flags=re.MULTILINE)
