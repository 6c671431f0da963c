"""Distillation as a callback."""

from contextlib import ExitStack

import lightning as L
from transformers import PreTrainedModel
from typing_extensions import override

from axformer_lightning.anatomy import find_transformer
from axformer_lightning.distillation import Distillation, distilled


class DistillationCallback(L.Callback):
    """Let a teacher take part in the loss of the Hugging Face model inside a LightningModule, during fit.

    For modules that use the `loss` that the Hugging Face model returns for batches with labels. The pruning callbacks
    may cut the model meanwhile. The teacher is run in every training step, on the inputs that the model is given; it is
    no part of the module, so optimizers and checkpoints do not know it. It is frozen, so there is no state to resume.

    Args:
        teacher: a fine-tuned Hugging Face model for the same task and with the same tokenizer, for example a copy of
            the module's own model before it is cut.
        temperature: as of :class:`~axformer_lightning.distillation.Distillation`.
        alpha: likewise.
        hidden: likewise.
        model: dotted attribute path of the Hugging Face model, needed where the module holds several.

    Raises:
        ValueError: if a setting is out of range; when fit begins, if the teacher cannot teach the model.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        >>> teacher = BertForSequenceClassification(BertConfig(vocab_size=9, **sizes))
        >>> callback = DistillationCallback(teacher, temperature=4)
        >>> callback.settings
        Distillation(temperature=4, alpha=0.9, hidden=0.0)
    """

    def __init__(
        self,
        teacher: PreTrainedModel,
        *,
        temperature: float = Distillation.temperature,
        alpha: float = Distillation.alpha,
        hidden: float = Distillation.hidden,
        model: str | None = None,
    ) -> None:
        self.teacher = teacher
        self.settings = Distillation(temperature, alpha, hidden)
        self.model = model
        self._undo: ExitStack | None = None

    @override
    def on_fit_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> None:  # the model may be made in `setup`
        self._end()
        self._undo = ExitStack()
        self._undo.enter_context(distilled(find_transformer(pl_module, self.model), self.teacher, self.settings))

    @override
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._end()

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._end()  # Lightning leaves out `teardown`

    def _end(self) -> None:
        if self._undo is not None:
            self._undo.close()
            self._undo = None
