"""DECIDE: from a model and a search set to a plan."""

from axformer_lightning.search.baseline import score_of
from axformer_lightning.search.find import Found, JournalPath, find_plan, search, search_plan
from axformer_lightning.search.greedy import Outcome, Step, Trial, greedy_search, repeat_sweeps
from axformer_lightning.search.options import PUBLISHED, SearchOptions, make_settings, meanings, spelled_out
from axformer_lightning.search.phases import count_wholes
from axformer_lightning.search.round import OnTrial
from axformer_lightning.search.settings import (
    EarlyStop,
    Int8,
    Pruning,
    SearchCounts,
    SearchSettings,
    Shortcuts,
    Strategy,
)
from axformer_lightning.search.steps import ordered, steps_of

__all__ = [
    "PUBLISHED",
    "EarlyStop",
    "Found",
    "Int8",
    "JournalPath",
    "OnTrial",
    "Outcome",
    "Pruning",
    "SearchCounts",
    "SearchOptions",
    "SearchSettings",
    "Shortcuts",
    "Step",
    "Strategy",
    "Trial",
    "count_wholes",
    "find_plan",
    "greedy_search",
    "make_settings",
    "meanings",
    "ordered",
    "repeat_sweeps",
    "score_of",
    "search",
    "search_plan",
    "spelled_out",
    "steps_of",
]
