"""RUN: tasks, models and the stages of a run."""

from axformer_lightning.tasks.data import TextData, split_off
from axformer_lightning.tasks.models import load_model
from axformer_lightning.tasks.module import TextClassifier
from axformer_lightning.tasks.rows import Rows, load_rows
from axformer_lightning.tasks.table import TASKS, Task

__all__ = ["TASKS", "Rows", "Task", "TextClassifier", "TextData", "load_model", "load_rows", "split_off"]
