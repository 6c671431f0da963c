"""MEASURE: the loss of every sample of the search set, predictions and targets."""

from axformer_lightning.scoring.batches import Batch, batches_by_length
from axformer_lightning.scoring.mode import eval_mode
from axformer_lightning.scoring.steps import Scored, Step, can_score, score_logits, step_of

__all__ = ["Batch", "Scored", "Step", "batches_by_length", "can_score", "eval_mode", "score_logits", "step_of"]
