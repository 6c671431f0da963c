"""A LightningModule for extractive question answering.

Shape suffixes: ``W`` windows, ``N`` questions.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torchmetrics import MetricCollection
from transformers import PreTrainedModel

from axformer_lightning.scoring import WithLogits, score_logits
from axformer_lightning.tasks.module import FineTuner
from axformer_lightning.tasks.squad.answers import best_spans
from axformer_lightning.tasks.squad.data import Question
from axformer_lightning.tasks.squad.metrics import values_of
from axformer_lightning.tasks.task import Task

Answers = tuple[list[dict[str, Any]], list[dict[str, Any]]]  # predictions and targets, for the metrics


class QuestionAnswerer(FineTuner):
    """Fine-tunes and evaluates a question answering model; a sample is a question, however many windows it has.

    Args:
        model: a Hugging Face model with start and end logits.
        task: gives the metrics.
        learning_rate: highest learning rate.
        questions: the questions that the `sample_ids` of a batch are indices of, as `QuestionData.questions`.
        n_best: number of starts and ends that are combined in a window.
        max_answer_length: most tokens of an answer.
        options: `weight_decay` and `warmup`, as in `FineTuner`.
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
        """Return the output of the model for the entries of a batch that it takes."""
        return super().forward(**{name: value for name, value in batch.items() if name in self.taken})

    def axformer_step(self, batch: dict[str, Tensor]) -> WithLogits:
        """Return the loss of each question, the predictions and the targets.

        The loss of a window is the mean of the cross-entropies of start and end; the loss of a question is the mean
        over its windows.

        Args:
            batch: a batch of `QuestionData`, with whole questions.

        Returns:
            Losses of shape (N,), and predictions and targets for the SQuAD metric of torchmetrics. The predictions also
            have the `no_answer_score` of SQuAD v2.0: the null score minus the score of the best span. Their text is
            that span in any case. The logits go along, so that a budget is judged by how far answers go from those
            before.
        """
        output = self(**batch)
        logits_WT = (output.start_logits, output.end_logits)
        return score_logits(logits_WT, batch).judged_by(*self._answers(logits_WT, batch))

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the loss on the search set."""
        self._evaluate(batch, self.search_metrics, "search_")

    def on_validation_epoch_end(self) -> None:
        """Log the metrics on the search set."""
        self._log_metrics(self.search_metrics, "search_")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Log the loss on the dev set; return what each question adds to the means `exact_match` and `f1`."""
        preds, target = self._evaluate(batch, self.dev_metrics, "")
        return values_of(preds, target, may_be_silent="v2" in self.task.version)

    def on_test_epoch_end(self) -> None:
        """Log the metrics on the dev set, under their official names."""
        self._log_metrics(self.dev_metrics, "")

    def _evaluate(self, batch: dict[str, Tensor], metrics: MetricCollection, prefix: str) -> Answers:
        loss_N, preds, target = self.axformer_step(batch)
        metrics.update(preds, target)
        self.log(f"{prefix}loss", loss_N.mean(), batch_size=len(loss_N), prog_bar=bool(prefix), sync_dist=True)
        return preds, target

    def _log_metrics(self, metrics: MetricCollection, prefix: str) -> None:
        # Not logged as metrics: Lightning rejects metrics that compute a dict.
        self.log_dict({prefix + name: value for name, value in metrics.compute().items()}, prog_bar=bool(prefix))
        metrics.reset()

    def _answers(self, logits_WT: tuple[Tensor, Tensor], batch: Mapping[str, Tensor]) -> Answers:
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
            # Some tokenizers include the blank before a word.
            {"id": question.id, "prediction_text": question.context[a:b].strip(), "no_answer_score": score}
            for question, (a, b), score in zip(questions, spans.chars_N2.tolist(), no_answer, strict=True)
        ]
        return preds, [{"id": question.id, "answers": question.answers} for question in questions]
