"""From a model and a search set to a plan: the rooms FIND to REMEMBER, one after the other."""

from axformer_lightning.finding.find import find_plan, search_plan
from axformer_lightning.finding.measuring import OnTrial, Score
from axformer_lightning.finding.ranks import Ranks
from axformer_lightning.finding.settings import Pruning, SearchCounts, SearchSettings

__all__ = ["OnTrial", "Pruning", "Ranks", "Score", "SearchCounts", "SearchSettings", "find_plan", "search_plan"]
