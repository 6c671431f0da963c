"""DECIDE: the order and the hierarchy in which components are tried. Knows no model and no tensor."""

from axformer_lightning.search.greedy import Outcome, Step, Trial, greedy_search, repeat_sweeps
from axformer_lightning.search.steps import (
    Candidate,
    Kind,
    hard_attention_steps,
    neuron_groups,
    ordered,
    pruning_steps,
    with_candidate,
)

__all__ = [
    "Candidate",
    "Kind",
    "Outcome",
    "Step",
    "Trial",
    "greedy_search",
    "hard_attention_steps",
    "neuron_groups",
    "ordered",
    "pruning_steps",
    "repeat_sweeps",
    "with_candidate",
]
