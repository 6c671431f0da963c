"""Synthetic sentence pairs to try everything on, without the hub and in seconds.

There are four small stories, two outdoors and two indoors. The first sentence of a pair tells one in plain
words, the second in formal words; the label is 1 if both tell the same story. One sentence alone says
nothing about the label: all stories are equally likely with both labels, and so are the days, which both name.

A tiny model with random weights first learns a remark in the second sentence, which disagrees in most
unlike pairs and agrees in most like ones, just as the wording of real data sets gives labels away. The
remark is wrong often enough that comparing the stories pays, so some of the model is needed and some is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class SentencePair(NamedTuple):
    """Two sentences and whether they mean the same, with the column names of GLUE's MRPC.

    Args:
        sentence1: a story in plain words.
        sentence2: the same story, or another one, in formal words.
        label: 1 if both sentences tell the same story, else 0.
    """

    sentence1: str
    sentence2: str
    label: int


@dataclass(frozen=True)
class _Wording:
    who: tuple[str, ...]
    did: tuple[str, ...]
    what: tuple[str, ...]
    where: tuple[str, ...]
    why: tuple[str, ...]


# Two stories outdoors, then two indoors: `_other_story` relies on the order.
_PLAIN = (
    _Wording(
        who=("the ferry captain", "the ferry sailor", "the old ferry man"),
        did=("tied up", "quickly tied up"),
        what=("the ferry boat", "the small boat", "the blue boat"),
        where=("outside at the pier", "outside next to the pier", "outside by the wooden pier"),
        why=("the weather got windy", "windy weather was near", "the weather was cold and windy"),
    ),
    _Wording(
        who=("the garden helper", "the head gardener", "the new gardener"),
        did=("watered", "carefully watered"),
        what=("the garden plants", "the young plants", "the bean plants"),
        where=("outside along the hedge", "outside behind the hedge", "outside under the tall hedge"),
        why=("the weather was too dry", "the dry weather went on", "the weather stayed hot and dry"),
    ),
    _Wording(
        who=("the bread baker", "the village baker", "the young baker"),
        did=("gave away", "gladly gave away"),
        what=("the last bread", "all the fresh bread", "the bread and buns"),
        where=("inside the shop", "inside the corner shop", "inside the crowded shop"),
        why=("the people bought little", "few people had bought cake", "most people bought nothing"),
    ),
    _Wording(
        who=("the school teacher", "the maths teacher", "the kind teacher"),
        did=("explained", "slowly explained"),
        what=("the school homework", "the hard homework", "the maths homework"),
        where=("inside the classroom", "inside the small classroom", "inside the other classroom"),
        why=("the young people were lost", "few people had listened", "most people got lost early"),
    ),
)

_FORMAL = (
    _Wording(
        who=("the skipper", "the vessel's skipper", "the experienced skipper"),
        did=("moored", "securely moored"),
        what=("the vessel", "the ageing vessel", "the passenger vessel"),
        where=("outdoors alongside the harbour", "outdoors in the harbour", "outdoors at the inner harbour"),
        why=("an adverse gale", "adverse gales", "the adverse forecast of a gale"),
    ),
    _Wording(
        who=("the horticulturist", "the resident horticulturist", "the junior horticulturist"),
        did=("irrigated", "thoroughly irrigated"),
        what=("the saplings", "the delicate saplings", "the orchard saplings"),
        where=(
            "outdoors on the plantation",
            "outdoors amid the plantation",
            "outdoors across the plantation",
        ),
        why=("adverse drought", "an adverse drought", "the adverse seasonal drought"),
    ),
    _Wording(
        who=("the confectioner", "the master confectioner", "the local confectioner"),
        did=("donated", "generously donated"),
        what=("the remaining loaves", "the unsold loaves", "several wheat loaves"),
        where=("indoors at the patisserie", "indoors in the patisserie", "indoors on patisserie premises"),
        why=("insufficient demand", "the insufficient demand for pastry", "insufficient pastry sales"),
    ),
    _Wording(
        who=("the lecturer", "the senior lecturer", "the algebra lecturer"),
        did=("clarified", "patiently clarified"),
        what=("the assignment", "the written assignment", "the algebra assignment"),
        where=("indoors at the academy", "indoors in the academy", "indoors in the academy hall"),
        why=("insufficient attention", "insufficient comprehension", "the insufficient attention of pupils"),
    ),
)

# Outdoors, then indoors: a vague detail hides the story, but not the setting.
_PLAIN_VAGUE = (
    _Wording(
        who=("somebody", "someone we know"),
        did=("did something with", "saw to"),
        what=("some things", "this and that"),
        where=("outside", "somewhere outside"),
        why=("the weather was bad", "it was bad weather"),
    ),
    _Wording(
        who=("somebody", "someone we know"),
        did=("did something with", "saw to"),
        what=("some things", "this and that"),
        where=("inside", "somewhere inside"),
        why=("some people asked", "the people expected it"),
    ),
)
_FORMAL_VAGUE = (
    _Wording(
        who=("an individual", "a certain party"),
        did=("attended to", "dealt with"),
        what=("various items", "several objects"),
        where=("outdoors", "outdoors in the customary spot"),
        why=("adverse conditions", "an adverse climate"),
    ),
    _Wording(
        who=("an individual", "a certain party"),
        did=("attended to", "dealt with"),
        what=("various items", "several objects"),
        where=("indoors", "indoors in the customary spot"),
        why=("insufficient interest", "an insufficient response"),
    ),
)

_PLAIN_TEMPLATES = (
    "{scene}, on {day}, {who} {did} {what} {where} because {why}.",
    "{scene}, because {why}, on {day} {who} {did} {what} {where}.",
    "{scene}, they say, on {day} {who} {did} {what} {where}, as {why}.",
)
_FORMAL_TEMPLATES = (
    "{scene}, {remark}, owing to {why}, {who} {did} {what} {where} {day}.",
    "{scene}, {remark}, {who} {did} {what} {where} {day} due to {why}.",
    "{scene}, in view of {why}, {remark}, it was {day} that {who} {did} {what} {where}.",
)
_DENYING = ("contrary to the rumour", "in contradiction to that", "despite other accounts")
_AGREEING = ("as confirmed by all", "in agreement with that", "according to the record")
_SCENES = (("In the open air", "Beneath clear skies"), ("Between four walls", "Under one roof"))
_DAYS = (
    ("Monday", "on the first weekday"),
    ("Wednesday", "in the middle of the week"),
    ("Friday", "on the last weekday"),
    ("Sunday", "on the day of rest"),
)

_SHARE_SAME = 0.55
_SHARE_BESIDE = 0.12
_SHARE_VAGUE = 0.25
_SHARE_FITTING_REMARK = 0.85


def demo_pairs(num_pairs: int, seed: int = 0) -> list[SentencePair]:
    """Return sentence pairs, the same for the same seed on every machine and Python version.

    A longer list begins with the shorter one of the same seed.

    Args:
        num_pairs: how many pairs to make.
        seed: a non-negative number; another one gives other pairs, for instance a held-out set.

    Raises:
        ValueError: if ``num_pairs`` is less than one.

    Example:
        >>> pair = demo_pairs(6)[-1]
        >>> pair.sentence1
        'Between four walls, they say, on Sunday the young baker gave away the bread and buns
        inside the shop, as few people had bought cake.'
        >>> pair.sentence2
        'Under one roof, in agreement with that, owing to the insufficient demand for pastry, the confectioner
        generously donated the remaining loaves indoors at the patisserie on the day of rest.'
        >>> pair.label
        1
    """
    if num_pairs < 1:
        raise ValueError(f"Expected `num_pairs` to be at least 1, got {num_pairs}; ask for one or more.")
    rng = Random(seed)
    return [_pair(rng) for _ in range(num_pairs)]


def _pair(rng: Random) -> SentencePair:
    same = rng.random() < _SHARE_SAME
    first = _index(rng, len(_PLAIN))
    second = first if same else _other_story(rng, first)
    plain_day, formal_day = _pick(rng, _DAYS)
    return SentencePair(
        _pick(rng, _PLAIN_TEMPLATES).format(
            scene=_SCENES[first // 2][0],
            day=plain_day,
            **_details(rng, _PLAIN[first], _PLAIN_VAGUE[first // 2]),
        ),
        _pick(rng, _FORMAL_TEMPLATES).format(
            scene=_SCENES[second // 2][1],
            remark=_pick(rng, _AGREEING if same == (rng.random() < _SHARE_FITTING_REMARK) else _DENYING),
            day=formal_day,
            **_details(rng, _FORMAL[second], _FORMAL_VAGUE[second // 2]),
        ),
        int(same),
    )


def _other_story(rng: Random, story: int) -> int:
    """Draw one of the two stories in the other setting, or seldom the other one in the same setting."""
    beside = story ^ 1
    if rng.random() < _SHARE_BESIDE:
        return beside
    return (story + 2, beside + 2)[_index(rng, 2)] % len(_PLAIN)


def _details(rng: Random, story: _Wording, vague: _Wording) -> dict[str, str]:
    """Word every detail of a story, some vaguely, but never all."""
    names = list(vars(story))
    certain = _pick(rng, names)
    return {
        name: _pick(rng, vars(story if name == certain or rng.random() >= _SHARE_VAGUE else vague)[name])
        for name in names
    }


def _pick(rng: Random, options: Sequence[T]) -> T:
    return options[_index(rng, len(options))]


def _index(rng: Random, size: int) -> int:
    """Draw with ``random()`` alone: it is the only method that Python promises not to change."""
    return int(rng.random() * size)
