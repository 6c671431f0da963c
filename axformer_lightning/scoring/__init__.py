"""MEASURE: the loss of every sample of the search set, predictions and targets."""

from axformer_lightning.scoring.agreement import check_agreement
from axformer_lightning.scoring.arranging import (
    can_rebatch,
    checked_search_batches,
    has_rows,
    samples_depend,
    search_batches,
    shuffled,
)
from axformer_lightning.scoring.batches import BATCH_TOKENS, Batch, batches_by_length, to_device
from axformer_lightning.scoring.context import as_is, scoring
from axformer_lightning.scoring.logits import Loss, Scored, WithLogits, per_sample, score_logits
from axformer_lightning.scoring.metrics import check_metric
from axformer_lightning.scoring.names import ADVICE, INTO_BATCHES
from axformer_lightning.scoring.steps import Step, losses_are_nonnegative, step_of
from axformer_lightning.scoring.unlabelled import with_own_labels

__all__ = [
    "ADVICE",
    "BATCH_TOKENS",
    "INTO_BATCHES",
    "Batch",
    "Loss",
    "Scored",
    "Step",
    "WithLogits",
    "as_is",
    "batches_by_length",
    "can_rebatch",
    "check_agreement",
    "check_metric",
    "checked_search_batches",
    "has_rows",
    "losses_are_nonnegative",
    "per_sample",
    "samples_depend",
    "score_logits",
    "scoring",
    "search_batches",
    "shuffled",
    "step_of",
    "to_device",
    "with_own_labels",
]
