"""SQuAD v1.1 and v2.0: questions, windows, answers and their metrics."""

from axformer_lightning.tasks.squad.answers import Spans, best_spans
from axformer_lightning.tasks.squad.data import Question, QuestionData
from axformer_lightning.tasks.squad.metrics import SquadMetrics, SquadV2Metrics, entry_of
from axformer_lightning.tasks.squad.module import QuestionAnswerer
from axformer_lightning.tasks.squad.rows import align_answers, read_squad
from axformer_lightning.tasks.squad.windows import make_windows

__all__ = [
    "Question",
    "QuestionAnswerer",
    "QuestionData",
    "Spans",
    "SquadMetrics",
    "SquadV2Metrics",
    "align_answers",
    "best_spans",
    "entry_of",
    "make_windows",
    "read_squad",
]
