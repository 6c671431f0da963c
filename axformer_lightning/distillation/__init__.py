"""TEACH: a teacher's logits and hidden states in the loss of a model that trains."""

from axformer_lightning.distillation.checks import check_teacher
from axformer_lightning.distillation.hooks import distilled
from axformer_lightning.distillation.kept import digest_of_model, kept_logits, teacher_logits
from axformer_lightning.distillation.losses import Logits, hidden_loss, logits_of, mixed_loss, soft_loss
from axformer_lightning.distillation.settings import Distillation

__all__ = [
    "Distillation",
    "Logits",
    "check_teacher",
    "digest_of_model",
    "distilled",
    "hidden_loss",
    "kept_logits",
    "logits_of",
    "mixed_loss",
    "soft_loss",
    "teacher_logits",
]
