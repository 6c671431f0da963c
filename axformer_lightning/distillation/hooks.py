"""A teacher in the loss of a Hugging Face model, wherever that is computed."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import layers_left
from axformer_lightning.basics import eval_mode
from axformer_lightning.distillation.checks import check_teacher
from axformer_lightning.distillation.losses import hidden_loss, logits_of, mixed_loss
from axformer_lightning.distillation.settings import Distillation
from axformer_lightning.scoring.names import NOT_INPUTS


@contextmanager
def distilled(model: PreTrainedModel, teacher: PreTrainedModel, settings: Distillation) -> Iterator[None]:
    """Let ``teacher`` take part in the loss that ``model`` returns while it trains.

    In training mode the teacher is run on the inputs that the model is given, and the `loss` of the model's output is
    what :func:`~axformer_lightning.distillation.mixed_loss` makes of both, and the hidden states if they have a weight.
    In eval mode nothing changes. The model may be cut meanwhile. The teacher stays outside of the model: none of its
    weights is trained or saved with it.

    Args:
        model: is called with labels, by whomever.
        teacher: is moved to the model's device at the first step.
        settings: what it teaches, and how much.

    Raises:
        ValueError: if the teacher cannot teach the model (:func:`~axformer_lightning.distillation.check_teacher`); in
            a step, if the model is called without labels.

    Example:
        >>> import copy
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        >>> config = BertConfig(vocab_size=9, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **sizes)
        >>> model = BertForSequenceClassification(config).train()
        >>> batch = {"input_ids": torch.tensor([[1, 2]]), "labels": torch.tensor([0])}
        >>> with distilled(model, copy.deepcopy(model), Distillation(alpha=0.75)):
        ...     share = model(**batch).loss / 0.25  # the teacher agrees, so its part is 0
        >>> torch.allclose(share, model(**batch).loss)
        True
    """
    check_teacher(teacher, model, settings)
    hooks = [model.register_forward_hook(_Mixing(teacher, settings), with_kwargs=True)]
    if settings.hidden:
        hooks.append(model.register_forward_pre_hook(_ask_for_hidden_states, with_kwargs=True))
    try:
        with eval_mode(teacher):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def kept_layers(model: PreTrainedModel, number: int) -> list[int]:
    """Return which of the ``number`` layers whose hidden states a model puts out have something left."""
    left = layers_left(model)
    if len(left) != number:  # ALBERT applies its layers several times
        return list(range(number))
    kept = [i for i, layer in enumerate(left) if "kept" in (layer.attention, layer.feed_forward)]
    return kept or list(range(number))


def _ask_for_hidden_states(model: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    return (args, {**kwargs, "output_hidden_states": True}) if model.training else None


@dataclass(frozen=True, eq=False)
class _Mixing:
    """The forward hook; an object, so that a model can be pickled while it is taught."""

    teacher: PreTrainedModel
    settings: Distillation

    def __deepcopy__(self, memo: Any) -> "_Mixing":
        return self  # a copy of the model, as for averages of its weights, shares the teacher

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, model: PreTrainedModel, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        if not model.training or not torch.is_grad_enabled():
            return output
        if getattr(output, "loss", None) is None:
            raise ValueError(
                f"Expected {type(model).__name__} to be called with labels in training, so that a teacher can take part"
                " in the loss of its output, got an output without a loss. Pass the labels, and leave `return_dict` on;"
                " or add `axformer_lightning.distillation.soft_loss` to your own loss."
            )
        teacher, settings = self.teacher, self.settings
        if teacher.device != model.device:
            teacher.to(model.device)  # type: ignore[arg-type]
        if teacher.training:  # where it is a part of what trains, whose mode was set as a whole
            teacher.eval()
        unnamed, named = _by_name(model, args, kwargs)
        with torch.no_grad():
            taught = teacher(*unnamed, **{name: named[name] for name in named.keys() - NOT_INPUTS})
        problem_type = getattr(model.config, "problem_type", None)
        loss = mixed_loss(output, logits_of(taught), settings, problem_type=problem_type, entries=named)
        if settings.hidden:
            layers = kept_layers(model, len(output.hidden_states) - 1)
            states = output.hidden_states, taught.hidden_states
            loss = loss + settings.hidden * hidden_loss(*states, layers, named.get("attention_mask"))
        output.loss = loss
        return output


def _by_name(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the inputs of a call by the names that the model gives them: a teacher may have them in another order.

    What stands beyond these names, as in a `forward(*args)` of the user's, is returned first, as it was given.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    return args[len(names) :], {**dict(zip(names, args, strict=False)), **kwargs}
