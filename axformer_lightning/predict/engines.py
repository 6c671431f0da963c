"""What runs a model: PyTorch for a directory, ONNX Runtime for a file.

Shape suffixes: ``B`` samples of a batch, ``T`` tokens.
"""

import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from axformer_lightning.artifacts import load_pretrained

Inputs = Mapping[str, NDArray[np.int64]]  # name -> (B, T)
Outputs = dict[str, NDArray[np.float32]]  # name -> logits


@dataclass(frozen=True)
class Engine:
    """A model that is ready to run.

    Args:
        run: from inputs, each of shape (B, T), to the logits by their names.
        inputs: names of the inputs that the model takes.
        config: what `config.json` says of the model.
        directory: where its tokenizer is.
    """

    run: Callable[[Inputs], Outputs]
    inputs: frozenset[str]
    config: Mapping[str, Any]
    directory: Path


def load_engine(path: str | os.PathLike[str]) -> Engine:
    """Load a directory of :func:`save_pretrained`, or an `.onnx` file with its `config.json` beside it.

    Raises:
        FileNotFoundError: if there is no such file or directory, or one of its files is missing.
        ImportError: if the engine of the format is not installed.
        ValueError: if the suffix is not known, or the file cannot be read.
    """
    where = Path(path)
    suffix = "" if where.is_dir() else where.suffix
    if suffix not in ENGINES:
        known = ", ".join(name or "a directory" for name in ENGINES)
        raise ValueError(f"Expected one of {known}, got {os.fspath(path)!r}. Export the model to one of them.")
    if not where.exists():
        raise FileNotFoundError(f"Expected a saved model at {os.fspath(path)!r}, found nothing. Check the path.")
    return ENGINES[suffix](where)


def _torch(directory: Path) -> Engine:
    model = load_pretrained(directory, dtype=torch.float32)

    def run(inputs: Inputs) -> Outputs:
        with torch.inference_mode():
            outputs = model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items() if name.endswith("logits")}

    taken = frozenset(inspect.signature(model.forward).parameters)
    return Engine(run, taken, model.config.to_dict(), directory)


def _onnx(file: Path) -> Engine:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"Expected onnxruntime to run {str(file)!r}, it is not installed."
            " Do `pip install 'axformer-lightning[export]'`."
        ) from error
    config = _config(file.parent / "config.json")
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # no warnings of its optimizer
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base of their own
        raise ValueError(f"Cannot read the model {str(file)!r}: {error} Export it again.") from error
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Inputs) -> Outputs:
        return dict(zip(names, session.run(None, dict(inputs)), strict=True))

    return Engine(run, frozenset(given.name for given in session.get_inputs()), config, file.parent)


def _config(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected {str(path)!r} beside the model, for the names of its labels, found none. Copy the one of the"
            " directory that was exported."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise TypeError(f"expected a JSON object, got {type(config).__name__}")
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"Cannot read the config {str(path)!r}: {error}. Export the model again.") from error
    return config


ENGINES: dict[str, Callable[[Path], Engine]] = {"": _torch, ".onnx": _onnx}
