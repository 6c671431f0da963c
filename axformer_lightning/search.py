"""DECIDE: the order and the hierarchy in which components are tried. Knows no model and no tensor."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from axformer_lightning.anatomy import HardAttention, LayerPlan

C = TypeVar("C")
S = TypeVar("S")

Kind = Literal["hard_attention", "attention", "feed_forward", "head", "neuron_group"]


@dataclass(frozen=True)
class Candidate:
    """One change that the search may make.

    Args:
        kind: what is changed: a layer's attention hardened, or a component removed.
        layer: index of the layer, 0 nearest the input.
        index: which head or neuron group; None for whole blocks and hard attention.
    """

    kind: Kind
    layer: int
    index: int | None = None

    def __str__(self) -> str:
        part = "" if self.index is None else f" {self.index}"
        return f"{self.kind}{part} of layer {self.layer}"


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
        on_trial: is told of each trial.

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
        trial = attempt(whole, bool(parts))
        if not trial.accepted and parts and inspects(trial.score, best):
            for part in parts:
                attempt(part, False)
    return Outcome(accepted, best, tuple(trials))


def hard_attention_steps(layers: Sequence[LayerPlan]) -> Iterator[Step[Candidate]]:
    """Yield every soft attention block, from the first layer to the last."""
    for i, layer in enumerate(layers):
        if layer.attention == "kept" and layer.hard_attention is None:
            yield Candidate("hard_attention", i), ()


def pruning_steps(
    layers: Sequence[LayerPlan], num_heads: int, groups: Sequence[tuple[int, int]]
) -> Iterator[Step[Candidate]]:
    """Yield what is left of every block with its parts: last layer first, feed-forward before attention.

    Args:
        layers: what is left of each layer.
        num_heads: heads of an uncut layer.
        groups: the neuron groups, as half-open ranges of the intermediate dimension.
    """
    for i, layer in reversed(list(enumerate(layers))):
        if layer.feed_forward == "kept":
            left = set(layer.kept_neurons(groups[-1][1]))
            alive = [g for g, (start, stop) in enumerate(groups) if not left.isdisjoint(range(start, stop))]
            yield Candidate("feed_forward", i), [Candidate("neuron_group", i, g) for g in alive]
        if layer.attention == "kept":
            yield Candidate("attention", i), [Candidate("head", i, h) for h in layer.kept_heads(num_heads)]


def neuron_groups(intermediate_size: int, num_groups: int) -> tuple[tuple[int, int], ...]:
    """Split the intermediate dimension into equal groups; the first take one neuron more where it does not divide.

    Raises:
        ValueError: if there are no groups, or more groups than neurons.

    Example:
        >>> neuron_groups(14, 4)
        ((0, 4), (4, 8), (8, 11), (11, 14))
    """
    if not 1 <= num_groups <= intermediate_size:
        raise ValueError(
            f"Expected `neuron_groups` between 1 and the intermediate size {intermediate_size}, got {num_groups}."
            " Where the size is no multiple of it, the first groups take one neuron more."
        )
    size, more = divmod(intermediate_size, num_groups)
    starts = [g * size + min(g, more) for g in range(num_groups + 1)]
    return tuple(itertools.pairwise(starts))


def with_candidate(
    layers: tuple[LayerPlan, ...],
    candidate: Candidate,
    groups: Sequence[tuple[int, int]],
    hard_attention: HardAttention | None,
) -> tuple[LayerPlan, ...]:
    """Return ``layers`` with one candidate applied."""
    layer, index = layers[candidate.layer], candidate.index
    if candidate.kind == "hard_attention":
        changed = LayerPlan(**{**vars(layer), "hard_attention": hard_attention})
    elif candidate.kind == "attention":
        changed = layer.without_attention()
    elif candidate.kind == "feed_forward":
        changed = layer.without_feed_forward()
    elif index is None:
        raise ValueError(f"Expected a {candidate.kind} candidate to carry an index, got {candidate}.")
    elif candidate.kind == "head":
        changed = layer.without_head(index)
    else:
        changed = layer.without_neurons(*groups[index])
    return (*layers[: candidate.layer], changed, *layers[candidate.layer + 1 :])
