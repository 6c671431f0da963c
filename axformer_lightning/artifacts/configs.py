"""The config of an artifact, without the hints that it holds for transformers and the fields that lead elsewhere."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from axformer_lightning.artifacts.files import CONFIG_FILE, KEPT
from axformer_lightning.plan import Plan

# Fields of a config by which transformers would run other code than its own, or read other files than these.
ELSEWHERE = (
    "attn_implementation",
    "_attn_implementation",
    "experts_implementation",
    "_experts_implementation",
    "auto_map",
    "distributed_config",
    "fusion_config",
    "quantization_config",
    "transformers_weights",
)


def config_without_hints(path: Path, plan: Plan, model_class: type[PreTrainedModel] | None) -> PreTrainedConfig:
    """Return the config of an artifact as it was before it was saved.

    Args:
        path: of `config.json`.
        plan: knows the family.
        model_class: the class that was saved, where it is not one of transformers.

    Raises:
        ValueError: if there is no config in the file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data.update(data.pop(KEPT, {}))
        data = {name: value for name, value in data.items() if name not in ELSEWHERE}
        own: type[PreTrainedConfig] | None = getattr(model_class, "config_class", None)
        kind = type(AutoConfig.for_model(plan.model_type)) if own is None else own
        return kind.from_dict(data | {"model_type": plan.model_type})
    except Exception as error:
        raise ValueError(f"Cannot read the config {os.fspath(path)!r}: {type(error).__name__}: {error}") from error


def fields_among(options: Iterable[str], config: PreTrainedConfig) -> list[str]:
    """Return those options of ``from_pretrained`` that it takes for fields of a config.

    Example:
        >>> from transformers import BertConfig
        >>> fields_among(["dtype", "hidden_dropout_prob", "device_map"], BertConfig())
        ['hidden_dropout_prob']
    """
    return [name for name in options if name not in ("dtype", "torch_dtype") and hasattr(config, name)]


def architecture_of(
    config: PreTrainedConfig, directory: Path, model_class: type[PreTrainedModel] | None
) -> type[PreTrainedModel]:
    """Return the class of the model that a config is of.

    Args:
        config: names it.
        directory: that the config is from.
        model_class: the class that was saved, where it is not one of transformers.

    Raises:
        ValueError: if the config names another class, or none of this family.
    """
    names = config.architectures
    name = names[0] if isinstance(names, list) and len(names) == 1 else None
    if model_class is not None and name == model_class.__name__:
        return model_class
    found = getattr(transformers, name, None) if isinstance(name, str) and model_class is None else None
    of_family = isinstance(found, type) and issubclass(found, PreTrainedModel) and found.config_class is type(config)
    if not of_family:
        raise ValueError(
            f"Expected `architectures` in {os.fspath(directory / CONFIG_FILE)!r} to name one {config.model_type!r}"
            f" model class of transformers, or the one that is given as `model_class=`, got {names}."
        )
    return found  # type: ignore[return-value]
