"""What a search tries, and in which order."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from axformer_lightning.anatomy import KINDS, Candidate, LayerPlan, PhaseName, SearchSpace
from axformer_lightning.search.greedy import Step

C = TypeVar("C")


def steps_of(phase: PhaseName, layers: Sequence[LayerPlan], space: SearchSpace) -> Iterator[Step[Candidate]]:
    """Yield everything that a phase tries, with its parts.

    Pruning goes from the last layer to the first, hard attention and int8 from the first to the last: so int8 begins
    with the embeddings, which weigh most. Within a layer the order is that of the table of kinds: feed-forward before
    attention.

    Source: arXiv 2010.03688, algorithm 1.

    Args:
        phase: which kinds are tried.
        layers: what is left of each layer.
        space: what indices stand for.

    Example:
        >>> steps = steps_of("pruning", [LayerPlan(heads_removed=(0,))], SearchSpace(2, ((0, 8),)))
        >>> [(str(whole), list(map(str, parts))) for whole, parts in steps]
        [('feed_forward of layer 0', ['neuron_group 0 of layer 0']), ('attention of layer 0', ['head 1 of layer 0'])]
    """
    numbered = list(enumerate(layers))
    for i, layer in reversed(numbered) if phase == "pruning" else numbered:
        own = space.at(i)
        for name, kind in KINDS.items():
            if kind.phase == phase:
                part = kind.widths if space.ladders else kind.parts
                parts = [Candidate(part, i, index) for index in KINDS[part].offers(layer, own)] if part else []
                yield from ((Candidate(name, i, index), parts) for index in kind.offers(layer, own))


def ordered(steps: Iterable[Step[C]], change: Callable[[C], float], *, parts: bool = True) -> list[Step[C]]:
    """Return the same steps, those that promise the lowest loss first; each whole keeps its parts, ordered alike.

    So a block still comes before its parts, which are tried where it was rejected and nearly made it: only the order
    among blocks and among the parts of one block is another. Equals stay in the order of ``steps``.

    Args:
        steps: pairs of a whole and its parts.
        change: the change of the loss that is predicted for a candidate; the lowest comes first.
        parts: whether the parts are ordered, too. Widths are not: they go from the narrowest until one is accepted.

    Raises:
        ValueError: if a predicted change is not a number.

    Example:
        >>> ordered([("A", "ab"), ("B", "cd")], {"A": 2, "B": 1, "a": 0, "b": 0, "c": 3, "d": -3}.get)
        [('B', ['d', 'c']), ('A', ['a', 'b'])]
    """

    def predicted(candidate: C) -> float:
        value = change(candidate)
        if math.isnan(value):
            raise ValueError(f"Expected a predicted change of the loss for {candidate}, got {value}.")
        return value

    with_parts = [(whole, sorted(own, key=predicted) if parts else own) for whole, own in steps]
    return sorted(with_parts, key=lambda step: predicted(step[0]))
