"""REPEAT: score a model with candidates applied, running only what they can change."""

from axformer_lightning.replay.calls import Applied
from axformer_lightning.replay.first_pass import FirstPass, first_pass
from axformer_lightning.replay.measuring import (
    Base,
    Ends,
    Meter,
    Part,
    Score,
    never,
    num_not_worse,
    samples,
    total_loss,
)
from axformer_lightning.replay.ranks import ALONE, Ranks
from axformer_lightning.replay.reads import Reads
from axformer_lightning.replay.records import Records, free_memory, size_of
from axformer_lightning.replay.replay import Replay
from axformer_lightning.replay.running import AppliedModel, running, running_as
from axformer_lightning.replay.work import Work
from axformer_lightning.scoring import scoring

__all__ = [
    "ALONE",
    "Applied",
    "AppliedModel",
    "Base",
    "Ends",
    "FirstPass",
    "Meter",
    "Part",
    "Ranks",
    "Reads",
    "Records",
    "Replay",
    "Score",
    "Work",
    "first_pass",
    "free_memory",
    "never",
    "num_not_worse",
    "running",
    "running_as",
    "samples",
    "scoring",
    "size_of",
    "total_loss",
]
