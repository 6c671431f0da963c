"""A greedy search over anything that has parts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

C = TypeVar("C")
S = TypeVar("S")

Step = tuple[C, Sequence[C]]


@dataclass(frozen=True)
class Trial(Generic[C, S]):
    """One candidate that was tried.

    Args:
        candidate: what was tried, on top of everything accepted before.
        score: what was measured.
        best_before: the score of what had been accepted before.
        accepted: the decision.
    """

    candidate: C
    score: S
    best_before: S
    accepted: bool


@dataclass(frozen=True)
class Outcome(Generic[C, S]):
    """What a search ended with.

    Args:
        accepted: accepted candidates, in order.
        best: score with all of them.
        trials: everything that was tried, in order.
    """

    accepted: tuple[C, ...]
    best: S
    trials: tuple[Trial[C, S], ...]


def greedy_search(
    steps: Iterable[Step[C]],
    measure: Callable[[tuple[C, ...], S, bool], S],
    accepts: Callable[[S, S], bool],
    inspects: Callable[[S, S], bool],
    *,
    best: S,
    accepted: tuple[C, ...] = (),
    is_left: Callable[[tuple[C, ...], C], bool] = lambda accepted, candidate: True,
    on_trial: Callable[[Trial[C, S]], None] = lambda trial: None,
) -> Outcome[C, S]:
    """Try every step once, in order: the whole first, and its parts where the whole nearly made it.

    Source: arXiv 2010.03688, algorithm 1, and the authors' code.

    Args:
        steps: pairs of a whole and its parts, in the order to be tried.
        measure: scores a set of candidates; also told the best score so far, and whether parts would follow.
        accepts: judges a score against the best so far.
        inspects: tells from the score of a rejected whole whether its parts are tried, one at a time.
        best: score of ``accepted``.
        accepted: what has been accepted already.
        is_left: tells whether a candidate is still there with what has been accepted; others are passed over.
        on_trial: is called with each trial.

    Example:
        >>> cost = lambda letters, best, parts: sum({"A": 3, "a": -1, "b": 1}[letter] for letter in letters)
        >>> better = lambda score, best: score < best
        >>> greedy_search([("A", "ab")], cost, better, lambda score, best: True, best=0).accepted
        ('a',)
    """
    trials: list[Trial[C, S]] = []

    def attempt(candidate: C, has_parts: bool) -> Trial[C, S]:
        nonlocal best, accepted
        score = measure((*accepted, candidate), best, has_parts)
        trial = Trial(candidate, score, best, accepts(score, best))
        trials.append(trial)
        on_trial(trial)
        if trial.accepted:
            best, accepted = score, (*accepted, candidate)
        return trial

    for whole, parts in steps:
        if not is_left(accepted, whole):
            continue
        trial = attempt(whole, bool(parts))
        if not trial.accepted and parts and inspects(trial.score, best):
            for part in parts:
                if is_left(accepted, part):
                    attempt(part, False)
    return Outcome(accepted, best, tuple(trials))


def repeat_sweeps(
    sweep: Callable[[tuple[C, ...], S], Outcome[C, S]],
    max_sweeps: int | None = None,
    *,
    best: S,
    accepted: tuple[C, ...] = (),
) -> Outcome[C, S]:
    """Search over and over what is left, until a sweep accepts nothing or there have been enough.

    What was rejected may be accepted once something else is gone. A candidate may so be among the trials several
    times.

    Args:
        sweep: runs one :func:`greedy_search` over what is left without the candidates it is given, from their score.
        max_sweeps: how many there may be; None for as many as it takes.
        best: score of ``accepted``.
        accepted: what has been accepted already.

    Returns:
        What the last sweep ended with, and the trials of all.

    Raises:
        ValueError: if ``max_sweeps`` is less than one.

    Example:
        >>> def sweep(gone, best):
        ...     cost = lambda letters, best, parts: {"b": 1, "a": -1, "ab": -2}["".join(sorted(letters))]
        ...     steps = [(letter, ()) for letter in "ba" if letter not in gone]
        ...     never, lower = lambda score, best: False, lambda score, best: score < best
        ...     return greedy_search(steps, cost, lower, never, best=best, accepted=gone)
        >>> repeat_sweeps(sweep, 1, best=0).accepted, repeat_sweeps(sweep, best=0).accepted
        (('a',), ('a', 'b'))
    """
    if max_sweeps is not None and max_sweeps < 1:
        raise ValueError(f"Expected `sweeps` to be at least 1, or None for as many as it takes, got {max_sweeps}.")
    outcome: Outcome[C, S] = Outcome(accepted, best, ())
    count = 0
    while count != max_sweeps:
        after = sweep(outcome.accepted, outcome.best)
        count += 1
        is_over = after.accepted == outcome.accepted
        outcome = replace(after, trials=(*outcome.trials, *after.trials))
        if is_over:
            break
    return outcome
