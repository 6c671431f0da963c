"""The phases of a round: what each tries, by which rule, and how often."""

from dataclasses import dataclass

from axformer_lightning.anatomy import PhaseName
from axformer_lightning.criteria import Rule
from axformer_lightning.search.settings import SearchSettings, Strategy


@dataclass(frozen=True)
class Phase:
    """One phase of a round.

    Args:
        name: which kinds of components it tries.
        rule: when a candidate is accepted.
        strategy: the order of candidates.
        sweeps: how often what is left is tried, at most; None for as often as it takes.
        inspection_factor: the parts of a rejected candidate are tried where its loss is below this times the best.
    """

    name: PhaseName
    rule: Rule
    strategy: Strategy = "reference"
    sweeps: int | None = 1
    inspection_factor: float = 1.0


def phases_of(settings: SearchSettings) -> tuple[Phase, ...]:
    """Return what a round goes through: hard attention first, then pruning.

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
        phases.append(Phase("pruning", settings.rule, pruning.strategy, pruning.sweeps, pruning.inspection_factor))
    return tuple(phases)
