"""What can be tried in the layers of a transformer, and in which order."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.search.greedy import Step

C = TypeVar("C")

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


def ordered(steps: Iterable[Step[C]], change: Callable[[C], float]) -> list[Step[C]]:
    """Return the same steps, those that promise the lowest loss first; each whole keeps its parts, ordered alike.

    So a block still comes before its parts, which are tried where it was rejected and nearly made it: only the order
    among blocks and among the parts of one block is another. Equals stay in the order of ``steps``.

    Args:
        steps: pairs of a whole and its parts.
        change: the change of the loss that is predicted for a candidate; the lowest comes first.

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

    with_parts = [(whole, sorted(parts, key=predicted)) for whole, parts in steps]
    return sorted(with_parts, key=lambda step: predicted(step[0]))


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
