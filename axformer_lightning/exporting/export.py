"""From a model or an artifact to a file, and back."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from axformer_lightning.anatomy import find_transformer, layers_left
from axformer_lightning.artifacts import load_pretrained
from axformer_lightning.artifacts.files import check_is_cut_whole
from axformer_lightning.artifacts.loading import local_directory
from axformer_lightning.basics import errors_only
from axformer_lightning.exporting.formats import FORMATS, Exported, Format, Ready
from axformer_lightning.exporting.graph import example, plain_copy
from axformer_lightning.exporting.notes import Notes, notes_of
from axformer_lightning.int8 import all_in_int8, int8_modules, int8_ranges

OPSET, OLDEST_OPSET = 20, 18
Int8 = bool | Iterable[str] | None


def export_model(
    model: nn.Module | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    int8: Int8 = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    opset: int = OPSET,
    overwrite: bool = False,
) -> Path:
    """Write a model, cut or not, as a file that an engine runs without this package.

    The number of samples and of tokens may be any. Hard attention is in the file, and keeps all keys of what is shorter
    than its k. The file also holds the labels and, if there is one, the tokenizer.

    Args:
        model: a Hugging Face model, a module that holds exactly one, or an artifact's directory or id on the hub.
        path: where to.
        format: a row of ``FORMATS``: "onnx", "openvino" or "torch"; by default the one that the name's end says.
        int8: what is in int8. By default what the model's plan says; True: that, or all blocks and the embeddings if
            the plan says nothing; False: nothing; otherwise the names of linear layers and embeddings.
        tokenizer: kept in the file; by default the one of the artifact, if an artifact is given.
        opset: version of ONNX's operators.
        overwrite: whether a file of this name may be replaced.

    Returns:
        The path.

    Raises:
        ValueError: if the format, the opset or a name in ``int8`` is unknown, or the tokenizer is another model's.
        FileExistsError: if there is a file, or one of those that belong beside it, and ``overwrite`` is False; or if
            there is a directory.
        ModuleNotFoundError: if what the format needs is not installed; the extra is named.

    Nothing is half written: a file is complete before it gets its name.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, vocab_size=9)
        >>> model = BertForSequenceClassification(BertConfig(**sizes))
        >>> path = export_model(model, Path(tempfile.mkdtemp(), "model.pt2"))
        >>> read_exported(path).notes.inputs
        ('input_ids', 'attention_mask', 'token_type_ids')
    """
    target = Path(path)
    name, row = _row_of(target, format)
    for file in files_of(target, format):
        if file.is_dir():
            raise FileExistsError(
                f"Expected the path of a file, got {str(file)!r}, which is a directory. Choose another."
            )
        if file.exists() and not overwrite:
            raise FileExistsError(
                f"Expected a path that is free, got {str(file)!r}, which is there. Choose another, or pass"
                " `overwrite=True` (`--overwrite`)."
            )
    if opset < OLDEST_OPSET:
        raise ValueError(
            f"Expected an opset of {OLDEST_OPSET} or newer, got {opset}: older ones lack operators that the model"
            f" needs. Leave it at {OPSET}, and update the engine."
        )
    row.check_installed(name)
    if isinstance(model, str | os.PathLike):
        directory = local_directory(model)
        tokenizer = tokenizer_in(directory) if tokenizer is None else tokenizer
        model = load_pretrained(directory)
    transformer = find_transformer(model)
    check_is_cut_whole(transformer)
    names = int8_names(transformer, int8)
    if names and not row.has_int8:
        has = [known for known, other in FORMATS.items() if other.has_int8]
        raise ValueError(f"Expected a format out of {has} for int8, got {name!r}. Choose one, or pass `int8=False`.")
    ready = _ready(transformer, names, tokenizer, opset)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        row.write(ready, Path(temporary, target.name))
        for file in sorted(Path(temporary).iterdir()):  # what belongs beside the file comes before it: .bin, .xml
            file.replace(target.with_name(file.name))
    return target


def read_exported(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    threads: int | None = None,
) -> Exported:
    """Read what :func:`export_model` wrote, to be run on this machine's CPU.

    Args:
        path: of the file.
        format: a row of ``FORMATS``; by default the one that the name's end says.
        threads: how many the engine may use; by default as many as it likes. Those of torch are the whole process's.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the format is unknown, or the file is not one of it.
        ModuleNotFoundError: if the engine is not installed; the extra is named.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, vocab_size=9)
        >>> model = BertForSequenceClassification(BertConfig(**sizes))
        >>> exported = read_exported(export_model(model, Path(tempfile.mkdtemp(), "model.pt2")))
        >>> import numpy as np
        >>> inputs = {name: np.ones((2, 3), dtype=np.int64) for name in exported.notes.inputs}
        >>> exported(inputs)["logits"].shape
        (2, 2)
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"Expected an exported model, got {str(source)!r}, which is no file.")
    name, row = _row_of(source, format)
    row.check_installed(name)
    return row.read(source, threads)


def files_of(path: Path, format: str | None = None) -> list[Path]:  # noqa: A002
    """Return the files that a model is written to: the one of this path, and those that belong beside it.

    Args:
        path: as of :func:`export_model`.
        format: as of :func:`export_model`.
    """
    return [path, *map(path.with_suffix, _row_of(path, format)[1].beside)]


def _row_of(path: Path, name: str | None) -> tuple[str, Format]:
    if name is None:
        name = next((known for known, row in FORMATS.items() if row.suffix == path.suffix), path.suffix)
    row = FORMATS.get(name)
    if row is None:
        raise ValueError(
            f"Expected a format out of {[*FORMATS]}, got {name!r}. Pass `format=` (`--format`), or let the name end in"
            f" one of {[known.suffix for known in FORMATS.values()]}."
        )
    if path.suffix != row.suffix:
        raise ValueError(f"Expected a name that ends in {row.suffix!r} for {name!r}, got {path.name!r}. Rename it.")
    return name, row


def _ready(
    model: PreTrainedModel, names: Sequence[str], tokenizer: PreTrainedTokenizerBase | None, opset: int
) -> Ready:
    plain = plain_copy(model)
    batch, notes = described(plain, model, names, tokenizer)
    modules = {name: plain.get_submodule(name) for name in names}
    return Ready(plain, batch, notes, modules, int8_ranges(model, layers_left(model)), opset)


def described(
    runs: PreTrainedModel, model: PreTrainedModel, names: Sequence[str], tokenizer: PreTrainedTokenizerBase | None
) -> tuple[dict[str, Tensor], Notes]:
    """Return a batch that a model reads, and what there is to say of it.

    Args:
        runs: what is run with the batch, to see what comes out: the model itself, or a copy.
        model: what is described.
        names: of the modules that are in int8.
        tokenizer: of the model, if known.
    """
    batch = example(runs, None if tokenizer is None else tokenizer.model_input_names)
    with torch.no_grad():
        outputs = [name for name, value in runs(**batch).items() if hasattr(value, "dim")]
    return batch, notes_of(model, tuple(batch), tuple(outputs), tuple(names), tokenizer)


def int8_names(model: PreTrainedModel, int8: Int8) -> tuple[str, ...]:
    """Return the names of the modules that ``int8`` means, as :func:`export_model` takes it.

    Raises:
        ValueError: if there is no linear layer or embedding of a name.
    """
    layers = layers_left(model)
    if int8 is None or int8 is True:
        if int8 and not any(layer.int8 for layer in layers):
            layers = all_in_int8(model, layers)
        return tuple(int8_modules(model, layers))
    names = tuple(int8 or ())
    can = {name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Embedding)}
    if unknown := [name for name in names if name not in can]:
        raise ValueError(
            f"Expected names of linear layers and embeddings in `int8`, got {unknown[:3]}. There are {sorted(can)[:3]}"
            " and others: see `model.named_modules()`."
        )
    return names


def tokenizer_in(directory: Path) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer in a directory, or None if there is none that other engines could read."""
    if not (directory / "tokenizer.json").is_file():
        return None
    with errors_only("transformers"):  # no warning about the hint in an artifact's config: it is wanted
        return AutoTokenizer.from_pretrained(str(directory))
