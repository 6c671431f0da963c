"""What runs a model: PyTorch for a directory, the engine of its format for an exported file.

Shape suffixes: ``B`` samples of a batch, ``T`` tokens.
"""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from axformer_lightning.artifacts import load_pretrained
from axformer_lightning.exporting import Notes, notes_of, read_exported

Inputs = Mapping[str, NDArray[np.int64]]  # name -> (B, T)
Outputs = dict[str, NDArray[np.float32]]  # name -> logits


@dataclass(frozen=True)
class Engine:
    """A model that is ready to run.

    Args:
        run: from inputs, each of shape (B, T), to the outputs by their names.
        notes: what is known of the model; its tokenizer's text may be empty.
        source: where it is from.
    """

    run: Callable[[Inputs], Outputs]
    notes: Notes
    source: Path


def load_engine(path: str | os.PathLike[str], threads: int | None = None) -> Engine:
    """Load a directory of :func:`save_pretrained`, or a file of :func:`export_model`.

    Args:
        path: where it is.
        threads: how many an engine may use; PyTorch's are set by `torch.set_num_threads`.

    Raises:
        FileNotFoundError: if there is no such file or directory, or one of its files is missing.
        ModuleNotFoundError: if the engine of the format is not installed; the extra is named.
        ValueError: if the format is not known, or the file cannot be read.
    """
    source = Path(path)
    if source.is_dir():
        return _torch(source)
    if not source.exists():
        raise FileNotFoundError(f"Expected a saved model at {os.fspath(path)!r}, found nothing. Check the path.")
    exported = read_exported(source, threads=threads)
    return Engine(exported, exported.notes, source)


def _torch(directory: Path) -> Engine:
    model = load_pretrained(directory, dtype=torch.float32)
    taken = inspect.signature(model.forward).parameters
    names = tuple(name for name in ("input_ids", "attention_mask", "token_type_ids") if name in taken)
    notes = notes_of(model, names, (), (), None)

    def run(inputs: Inputs) -> Outputs:
        with torch.inference_mode():
            outputs = model(**{name: torch.from_numpy(inputs[name]) for name in names})
        return {name: value.numpy() for name, value in outputs.items() if name.endswith("logits")}

    file = directory / "tokenizer.json"
    return Engine(run, replace(notes, tokenizer=file.read_text(encoding="utf-8") if file.is_file() else ""), directory)
