"""The phases of a round: what each tries, by which rule, and how often."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from axformer_lightning.anatomy import Anatomy, LayerPlan, PhaseName, SearchSpace, neuron_groups
from axformer_lightning.criteria import Rule
from axformer_lightning.search.settings import SearchSettings, Strategy
from axformer_lightning.search.steps import steps_of


@dataclass(frozen=True)
class Phase:
    """One phase of a round.

    Args:
        name: which kinds of components it tries.
        rule: when a candidate is accepted.
        strategy: the order of candidates.
        sweeps: how often what is left is tried, at most; None for as often as it takes.
        inspection_factor: the parts of a rejected candidate are tried where its loss is below this times the best.
        repairs: whether candidates are judged repaired, at widths instead of parts, which are always tried.
        calibrates: whether it begins with measuring the ranges of static int8.
    """

    name: PhaseName
    rule: Rule
    strategy: Strategy = "reference"
    sweeps: int | None = 1
    inspection_factor: float = 1.0
    repairs: bool = False
    calibrates: bool = False


def phases_of(settings: SearchSettings) -> tuple[Phase, ...]:
    """Return what a round goes through: hard attention first, then pruning, and last int8.

    Example:
        >>> from axformer_lightning.anatomy import HardAttention
        >>> from axformer_lightning.search import Pruning
        >>> [phase.name for phase in phases_of(SearchSettings(HardAttention(), Pruning()))]
        ['hard_attention', 'pruning']
    """
    phases = []
    if settings.hard_attention:
        phases.append(Phase("hard_attention", settings.hard_rule or settings.rule))
    if pruning := settings.pruning:
        factor = math.inf if pruning.repair else pruning.inspection_factor
        phases.append(Phase("pruning", settings.rule, pruning.strategy, pruning.sweeps, factor, pruning.repair))
    if settings.int8:
        phases.append(Phase("int8", settings.int8_rule or settings.rule, calibrates=settings.int8.static))
    return tuple(phases)


def space_of(anatomy: Anatomy, settings: SearchSettings) -> SearchSpace:
    """Return what the indices of candidates stand for in a search of a model."""
    groups = neuron_groups(anatomy.intermediate_size, settings.pruning.neuron_groups if settings.pruning else 1)
    return SearchSpace(
        anatomy.num_heads, groups, settings.hard_attention, bool(settings.int8 and settings.int8.embeddings)
    )


def count_wholes(anatomy: Anatomy, layers: Sequence[LayerPlan], settings: SearchSettings) -> int | None:
    """Return how many candidates a search tries, without the parts of rejected blocks, of which nobody knows how many.

    None where it may go over them again.

    Example:
        >>> from axformer_lightning.anatomy import BERT
        >>> from axformer_lightning.search import Pruning
        >>> anatomy = Anatomy("bert", BERT, ("layer.0",), num_heads=4, head_size=2, intermediate_size=16)
        >>> count_wholes(anatomy, [LayerPlan()], SearchSettings(pruning=Pruning()))
        2
    """
    phases, space = phases_of(settings), space_of(anatomy, settings)
    if any(phase.sweeps != 1 for phase in phases):
        return None
    return sum(1 for phase in phases for _ in steps_of(phase.name, layers, space))
