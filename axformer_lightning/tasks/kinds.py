"""The data and modules of a run, for each kind of task."""

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel

from axformer_lightning.tasks.data import TextData
from axformer_lightning.tasks.module import FineTuner, TextClassifier
from axformer_lightning.tasks.squad import QuestionAnswerer, QuestionData
from axformer_lightning.tasks.task import Kind, Task
from axformer_lightning.tasks.task_data import TaskData


def _text_classifier(model: PreTrainedModel, task: Task, data: TextData, **options: Any) -> FineTuner:
    return TextClassifier(model, task, **options)


def _question_answerer(model: PreTrainedModel, task: Task, data: QuestionData, **options: Any) -> FineTuner:
    return QuestionAnswerer(model, task, questions=data.questions, **options)


# For each kind: makes the batches of a run; makes the LightningModule that learns from them.
KINDS: dict[Kind, tuple[Callable[..., TaskData], Callable[..., FineTuner]]] = {
    "classification": (TextData, _text_classifier),
    "regression": (TextData, _text_classifier),
    "question_answering": (QuestionData, _question_answerer),
}
