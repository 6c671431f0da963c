"""From a model and a search set to a plan: the rooms FIND to REMEMBER, one after the other."""

from axformer_lightning.finding.find import find_plan, search_plan
from axformer_lightning.finding.measuring import Score
from axformer_lightning.finding.ranks import Ranks
from axformer_lightning.finding.round import OnTrial
from axformer_lightning.finding.settings import EarlyStop, Pruning, SearchCounts, SearchSettings, Shortcuts, Strategy

__all__ = [
    "EarlyStop",
    "OnTrial",
    "Pruning",
    "Ranks",
    "Score",
    "SearchCounts",
    "SearchSettings",
    "Shortcuts",
    "Strategy",
    "find_plan",
    "search_plan",
]
