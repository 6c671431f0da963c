"""WHAT: tasks: their rows, batches, modules, models and metrics."""

from axformer_lightning.tasks.data import TextData, tokenized
from axformer_lightning.tasks.kinds import KINDS
from axformer_lightning.tasks.models import load_model
from axformer_lightning.tasks.module import FineTuner, TextClassifier
from axformer_lightning.tasks.overlap import without_dev_rows
from axformer_lightning.tasks.predictions import write_predictions
from axformer_lightning.tasks.rewording import check_noise, reworded
from axformer_lightning.tasks.rows import Rows, load_rows, texts_of
from axformer_lightning.tasks.split import at_most, draw, split_off
from axformer_lightning.tasks.table import TASKS
from axformer_lightning.tasks.task import Task
from axformer_lightning.tasks.teachers import load_teacher, same_tokens, teacher_for
from axformer_lightning.tasks.unlabelled import check_texts, read_unlabelled

__all__ = [
    "KINDS",
    "TASKS",
    "FineTuner",
    "Rows",
    "Task",
    "TextClassifier",
    "TextData",
    "at_most",
    "check_noise",
    "check_texts",
    "draw",
    "load_model",
    "load_rows",
    "load_teacher",
    "read_unlabelled",
    "reworded",
    "same_tokens",
    "split_off",
    "teacher_for",
    "texts_of",
    "tokenized",
    "without_dev_rows",
    "write_predictions",
]
