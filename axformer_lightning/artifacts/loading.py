"""A cut model as a directory, and back.

An artifact is safetensors and JSON only, and of its files no others are read than the three that are named here, or
written beside them as `SHA256SUMS`. `transformers` must not load it by itself: a removed block is nothing
but missing tensors to it, which it fills at random, and of hard attention it sees nothing. So two fields of
`config.json` hold a hint in place of their value: ``model_type``, by which ``Auto...from_pretrained`` fails, and
the number of layers, by which the concrete classes fail. The family is in `axformer_plan.json`, the
number of layers stands elsewhere in `config.json`.
"""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import load
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from axformer_lightning.anatomy import anatomy_of, find_transformer
from axformer_lightning.artifacts.configs import architecture_of, config_without_hints, fields_among
from axformer_lightning.artifacts.files import (
    CONFIG_FILE,
    FILES,
    PLAN_FILE,
    WEIGHTS_FILE,
    check_has_no_adapter,
    check_is_cut_whole,
    complete_artifact,
    is_written_here,
    say_what_is_missing,
    staged,
)
from axformer_lightning.artifacts.sums import check_sums
from axformer_lightning.first_token import set_first_token_
from axformer_lightning.int8 import unpack
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import cut_, is_as_it_was_built, let_plan_travel

# Arguments of constructors that no config remembers, and the part of a model that is there if they are true.
PARTS = {"add_pooling_layer": ".pooler.", "use_mask_token": ".embeddings.mask_token"}
OWN = ("output_loading_info", "state_dict")  # options of `from_pretrained` that are not the caller's to choose
OF_HUB = ("cache_dir", "force_download", "local_files_only", "revision", "token")


def save_pretrained(
    model: nn.Module, directory: str | os.PathLike[str], *, tokenizer: PreTrainedTokenizerBase | None = None
) -> None:
    """Write a model, cut or not, so that :func:`load_pretrained` gives it back.

    Files: `config.json`, `model.safetensors`, `axformer_plan.json`, the sums of these three in `SHA256SUMS`,
    `README.md`, and the tokenizer's. A model of which nothing was removed and no layer is hard stays loadable by
    `transformers` alone.

    Args:
        model: a Hugging Face model, or a module that holds exactly one.
        directory: where to; made if absent, files of the same names are replaced.
        tokenizer: saved beside the model.

    Of several processes (DDP) all may call this; the first writes.

    A warning names what is not in the artifact: parameters of the module's own, such as a head; and a model class that
    is not one of transformers, which loading has to be given.

    Raises:
        ValueError: if the family is unknown, the model cannot be found, a part of it was cut alone or is in int8 but
            not in float32, or it has adapters (PEFT) that are not merged.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 16}
        >>> model = BertForSequenceClassification(BertConfig(vocab_size=64, **sizes))
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     save_pretrained(model, directory)
        ...     type(load_pretrained(directory)).__name__
        'BertForSequenceClassification'
    """
    transformer = find_transformer(model)
    check_is_cut_whole(transformer)
    check_has_no_adapter(transformer)
    anatomy_of(transformer)
    if not is_written_here():
        return
    say_what_is_missing(model, transformer)
    with staged(directory) as staging:
        transformer.save_pretrained(staging)
        if is_as_it_was_built(transformer):  # one that is cut makes an artifact by itself
            complete_artifact(transformer, staging)
        if tokenizer is not None:
            tokenizer.save_pretrained(staging)


def load_pretrained(
    directory_or_hub_id: str | os.PathLike[str],
    *,
    first_token_only: bool = False,
    model_class: type[PreTrainedModel] | None = None,
    **kwargs: Any,
) -> PreTrainedModel:
    """Load what :func:`save_pretrained` wrote: cut, hard attention on, in eval mode.

    Nothing is unpickled, no code that comes with the files is run, and no other files are read.

    Args:
        directory_or_hub_id: an artifact's directory, or the id of a hub repository that holds one.
        first_token_only: whether calls skip what a head that reads the first token only has no use for
            (see :func:`axformer_lightning.first_token.set_first_token_`). Faster; logits may differ by rounding.
        model_class: the class that was saved, where it is not one of transformers.
        kwargs: passed to ``from_pretrained``, for example ``dtype``, ``attn_implementation`` or a field of the config;
            ``revision``, ``token`` and the like are of the hub repository, ``subfolder`` is one of the directory.

    Returns:
        A model of the class that was saved. On the machine that saved it, its logits are bit-identical
        with the same attention implementation.

    Raises:
        FileNotFoundError: if the directory lacks one of the files, or the hub id cannot be had.
        ValueError: if a file is not as it was saved, or does not fit the others; the file is named. Also if
            ``first_token_only`` is asked for and the head reads more than the first token.
        TypeError: if ``output_loading_info`` or ``state_dict`` is given.

    Example:
        >>> load_pretrained("nowhere/at/all")
        Traceback (most recent call last):
        FileNotFoundError: Expected a directory or the id of a hub repository, got 'nowhere/at/all': ...
    """
    if given := [name for name in OWN if name in kwargs]:
        raise TypeError(f"Expected no {given}: the model alone is returned, with the weights of the directory.")
    of_hub = {name: kwargs.pop(name) for name in OF_HUB if name in kwargs}
    directory = local_directory(directory_or_hub_id, **of_hub) / kwargs.pop("subfolder", "")
    for name in FILES:
        if not (directory / name).is_file():
            raise FileNotFoundError(
                f"Expected {name!r} in {os.fspath(directory)!r}: not a directory written by"
                " axformer_lightning.save_pretrained."
            )
    check_sums(directory, FILES)
    plan = Plan.load(directory / PLAN_FILE)
    config = config_without_hints(directory / CONFIG_FILE, plan, model_class)
    for name in fields_among(kwargs, config):
        setattr(config, name, kwargs.pop(name))
    dtype = kwargs.get("dtype", config.dtype)
    if any(layer.int8 for layer in plan.layers) and dtype not in (None, "auto", "float32", torch.float32):
        raise ValueError(
            f"Expected float32 for {os.fspath(directory)!r}, which is in int8, got {dtype}. Pass `dtype=torch.float32`."
        )
    architecture = architecture_of(config, directory, model_class)
    weights = _weights(directory / WEIGHTS_FILE)

    class Cut(architecture):  # type: ignore[valid-type, misc]
        """The saved class, cut before its weights are loaded; `from_pretrained` builds it on the meta device."""

        def __init__(self, config: PreTrainedConfig, *args: Any, **options: Any) -> None:
            super().__init__(config, *args, **options)
            cut_(self, plan)
            let_plan_travel(self, travels=False)  # `from_pretrained` takes all entries for parameters

    # By these transformers finds out whether it saves weights of a class by other names than the model has.
    Cut.__name__, Cut.__module__ = architecture.__name__, architecture.__module__
    # Without a directory, as transformers follows what it finds in one: an index of weights, adapters, shards.
    options = {"config": config, "output_loading_info": True, "ignore_mismatched_sizes": True}
    options |= _parts(architecture, weights) | kwargs
    try:
        model, info = Cut.from_pretrained(None, state_dict=weights, **options)
    except ImportError:  # of what the arguments ask for
        raise
    except Exception as error:  # a config may be wrong in as many ways as a model uses it
        raise ValueError(
            f"Cannot build the {architecture.__name__} that {os.fspath(directory / CONFIG_FILE)!r} and {PLAN_FILE!r}"
            f" describe: {type(error).__name__}: {error}"
        ) from error
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            raise ValueError(
                f"Expected the weights in {os.fspath(directory / WEIGHTS_FILE)!r} to fit {PLAN_FILE},"
                f" got {problem.replace('_', ' ')}: {sorted(map(str, info[problem]))[:5]}."
            )
    model.__class__ = architecture
    let_plan_travel(model)
    model.config.name_or_path = model.name_or_path = os.fspath(directory)
    if first_token_only:
        set_first_token_(model)
    return model  # type: ignore[no-any-return]


def local_directory(directory_or_hub_id: str | os.PathLike[str], **of_hub: Any) -> Path:
    """Return a directory, or the one that a hub repository is loaded to, with these options.

    Raises:
        FileNotFoundError: if there is neither.
    """
    directory = Path(directory_or_hub_id)
    if directory.is_dir():
        return directory
    try:
        return Path(snapshot_download(os.fspath(directory_or_hub_id), **of_hub))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"Expected a directory or the id of a hub repository, got {os.fspath(directory_or_hub_id)!r}:"
            f" no such directory, and the hub says: {error}"
        ) from error


def _parts(architecture: type[PreTrainedModel], weights: Mapping[str, Tensor]) -> dict[str, bool]:
    """Return the arguments by which a model gets the parts that were saved, and no others."""
    taken = inspect.signature(architecture).parameters
    return {name: any(part in f".{key}" for key in weights) for name, part in PARTS.items() if name in taken}


def _weights(path: Path) -> dict[str, Tensor]:
    content = path.read_bytes()  # not mapped: a model must not change with a file that is written anew
    try:
        return unpack(load(content))
    except Exception as error:  # safetensors raises more than its own error
        raise ValueError(f"Cannot read the weights {os.fspath(path)!r}: {error}") from error
