"""A LightningModule for extractive question answering.

Shape suffixes: ``W`` windows, ``N`` questions.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torchmetrics import MetricCollection
from transformers import PreTrainedModel

from axformer_lightning.scoring import score_logits
from axformer_lightning.tasks.module import FineTuner
from axformer_lightning.tasks.squad.answers import best_spans
from axformer_lightning.tasks.squad.data import Question
from axformer_lightning.tasks.task import Task


class QuestionAnswerer(FineTuner):
    """Fine-tunes and evaluates a question answerer; one sample is a question, however many windows it has.

    Args:
        model: a Hugging Face model with start and end logits.
        task: gives the metrics.
        learning_rate: highest learning rate.
        questions: what the `sample_ids` of a batch count, as `QuestionData.questions`.
        n_best: starts and ends of a window that are combined.
        max_answer_length: in tokens.
        options: `weight_decay` and `warmup`, as of `FineTuner`.
    """

    axformer_losses_nonnegative = True
    axformer_samples_independent = True

    def __init__(
        self,
        model: PreTrainedModel,
        task: Task,
        learning_rate: float = 3e-5,
        *,
        questions: Sequence[Question],
        n_best: int = 20,
        max_answer_length: int = 30,
        **options: Any,
    ) -> None:
        super().__init__(model, task, learning_rate, **options)
        self.questions = questions
        self.n_best = n_best
        self.max_answer_length = max_answer_length
        self.search_metrics = task.collection()
        self.dev_metrics = task.collection()
        self.taken = frozenset(inspect.signature(model.forward).parameters)

    def forward(self, **batch: Tensor) -> Any:
        """Return what the model returns for what it takes of a batch."""
        return super().forward(**{name: value for name, value in batch.items() if name in self.taken})

    def axformer_step(self, batch: dict[str, Tensor]) -> tuple[Tensor, list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the loss of each question, what is predicted, and what is right.

        The loss of a window is the mean of the cross-entropies of start and end, that of a question the mean over its
        windows.

        Args:
            batch: as of `QuestionData`; whole questions.

        Returns:
            Losses of shape (N,), and predictions and targets as torchmetrics' metric of SQuAD takes them. The
            predictions also have the `no_answer_score` of SQuAD v2.0: by how much the null score is above the best
            span's, whose text stands there in any case.
        """
        output = self(**batch)
        logits_WT = (output.start_logits, output.end_logits)
        return score_logits(logits_WT, batch).loss_N, *self._answers(logits_WT, batch)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the loss on the search set."""
        self._evaluate(batch, self.search_metrics, "search_")

    def on_validation_epoch_end(self) -> None:
        """Log the metrics on the search set."""
        self._log_metrics(self.search_metrics, "search_")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the loss on the dev set."""
        self._evaluate(batch, self.dev_metrics, "")

    def on_test_epoch_end(self) -> None:
        """Log the metrics on the dev set, under their official names."""
        self._log_metrics(self.dev_metrics, "")

    def _evaluate(self, batch: dict[str, Tensor], metrics: MetricCollection, prefix: str) -> None:
        loss_N, preds, target = self.axformer_step(batch)
        metrics.update(preds, target)
        self.log(f"{prefix}loss", loss_N.mean(), batch_size=len(loss_N), prog_bar=bool(prefix))

    def _log_metrics(self, metrics: MetricCollection, prefix: str) -> None:
        # Not logged as metrics: Lightning takes none that compute a dict.
        self.log_dict({prefix + name: value for name, value in metrics.compute().items()}, prog_bar=bool(prefix))
        metrics.reset()

    def _answers(
        self, logits_WT: tuple[Tensor, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        spans = best_spans(
            *logits_WT,
            batch["offsets"],
            batch["attention_mask"],
            batch["sample_ids"],
            n_best=self.n_best,
            max_answer_length=self.max_answer_length,
        )
        questions = [self.questions[i] for i in spans.sample_ids_N.tolist()]
        no_answer = (spans.null_score_N - spans.score_N).tolist()
        preds = [
            # Some tokenizers count the blank before a word to it.
            {"id": question.id, "prediction_text": question.context[a:b].strip(), "no_answer_score": score}
            for question, (a, b), score in zip(questions, spans.chars_N2.tolist(), no_answer, strict=True)
        ]
        return preds, [{"id": question.id, "answers": question.answers} for question in questions]
