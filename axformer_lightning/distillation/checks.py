"""Teachers that cannot teach a model are refused before it trains."""

import re
from typing import Any

from transformers import PreTrainedModel

from axformer_lightning.distillation.settings import Distillation

UNNAMED = re.compile(r"LABEL_\d+")  # what transformers calls labels that nobody has named


def check_teacher(
    teacher: PreTrainedModel, model: PreTrainedModel, settings: Distillation, *, same_inputs: bool = True
) -> None:
    """Raise unless ``teacher`` can teach ``model``.

    Args:
        teacher: a fine-tuned model.
        model: the model that is to learn, cut or not.
        settings: what is taught.
        same_inputs: whether the teacher is given the tokens of the model; else it has its own tokenizer.

    Raises:
        ValueError: if it shares weights with the model, has another kind of head, other labels, or another vocabulary
            where it is given the same tokens; or another family or size where it teaches hidden states.
    """
    own = set(model.parameters())
    if any(parameter in own for parameter in teacher.parameters()):
        raise ValueError(
            "Expected a teacher with weights of its own, got one that shares them with the model, and would change with"
            " it. Pass `copy.deepcopy(model)`."
        )
    kinds = _head(model), _head(teacher)
    if None not in kinds and kinds[0] != kinds[1]:
        raise ValueError(
            f"Expected a teacher for the same kind of task, {kinds[0]}, got a {type(teacher).__name__}. Fine-tune the"
            " teacher on this task."
        )
    _check_labels(teacher.config, model.config)
    sizes = [getattr(config, "vocab_size", None) for config in (model.config, teacher.config)]  # none for images
    if same_inputs and sizes[0] != sizes[1]:
        raise ValueError(
            f"Expected a teacher with the model's tokenizer, of {sizes[0]} tokens, as it is given the same batches, got"
            f" one of {sizes[1]}. Use a teacher with the same vocabulary, or train.py, which runs the teacher on its"
            " own tokens."
        )
    if settings.hidden:
        _check_hidden(teacher, model, same_inputs)


def _head(model: PreTrainedModel) -> str | None:
    """Return the kind of a model's head by its class, None for a class of the user's own."""
    _, found, kind = type(model).__name__.partition("For")
    return kind if found else None


def _check_labels(teacher: Any, model: Any) -> None:
    if teacher.num_labels != model.num_labels:
        raise ValueError(
            f"Expected a teacher for {model.num_labels} labels, as the model has, got one for {teacher.num_labels}."
            " Use a teacher that was fine-tuned on this task."
        )
    names = [[str(config.id2label[i]).lower() for i in range(config.num_labels)] for config in (model, teacher)]
    are_named = not any(UNNAMED.fullmatch(name.upper()) for some in names for name in some)
    if are_named and names[0] != names[1]:
        raise ValueError(
            f"Expected a teacher with the labels {names[0]}, in this order, got {names[1]}. If they mean the"
            " same, bring the rows of its last layer and `config.id2label` into this order, and save it again."
        )


def _check_hidden(teacher: PreTrainedModel, model: PreTrainedModel, same_inputs: bool) -> None:
    wanted, got = (
        (config.model_type, config.hidden_size, config.num_hidden_layers) for config in (model.config, teacher.config)
    )
    if wanted != got or not same_inputs:
        other = "" if same_inputs else " and another tokenizer"
        raise ValueError(
            f"Expected a teacher of the model's own family and size for `hidden` above 0, {_told(wanted)}, got"
            f" {_told(got)}{other}. Set `hidden` to 0, or take the dense model itself as the teacher."
        )


def _told(sizes: tuple[str, int, int]) -> str:
    family, width, layers = sizes
    return f"{family!r} with {layers} layers of width {width}"
