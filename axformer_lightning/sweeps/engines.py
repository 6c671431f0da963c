"""What runs a model: a row for each engine and precision."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from axformer_lightning.anatomy import layers_left
from axformer_lightning.artifacts import save_pretrained
from axformer_lightning.costs.measured import uniform_batch
from axformer_lightning.exporting import FORMATS, export_model, read_exported
from axformer_lightning.int8 import all_in_int8, observing
from axformer_lightning.plan import plan_of
from axformer_lightning.surgery import apply_plan_
from axformer_lightning.timing import seconds_of_call

Batch = Mapping[str, Tensor]
Run = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class Engine:
    """What runs a model, and in which precision.

    Args:
        format: row of :data:`~axformer_lightning.exporting.FORMATS`; None for PyTorch itself.
        int8: whether blocks are in int8.
        static: whether they are in static int8.
        dtype: of the weights in PyTorch.
    """

    format: str | None = None
    int8: bool = False
    static: bool = False
    dtype: torch.dtype = torch.float32

    @property
    def is_installed(self) -> bool:
        """Whether it can be used here."""
        needs = () if self.format is None else FORMATS[self.format].needs
        return all(find_spec(module) is not None for module in needs)

    @property
    def extra(self) -> str | None:
        """The extra of this package that installs it; None where the core has it."""
        return None if self.format is None else FORMATS[self.format].extra


ENGINES = {
    "PyTorch float": Engine(),
    "PyTorch bfloat16": Engine(dtype=torch.bfloat16),
    "ONNX float": Engine("onnx"),
    "ONNX int8": Engine("onnx", int8=True),
    "ONNX static int8": Engine("onnx", int8=True, static=True),
    "OpenVINO float": Engine("openvino"),
    "OpenVINO int8": Engine("openvino", int8=True),
    "OpenVINO static int8": Engine("openvino", int8=True, static=True),
}


def check_engines(names: list[str]) -> None:
    """Raise unless these are engines that can be used here.

    Raises:
        ValueError: naming those that are unknown, or how to install those that are not.

    Example:
        >>> check_engines(["PyTorch float", "TensorRT"])
        Traceback (most recent call last):
        ValueError: Expected engines out of ['PyTorch float', ..., 'OpenVINO static int8'], got ['TensorRT'].
    """
    if unknown := sorted(set(names) - set(ENGINES)):
        raise ValueError(f"Expected engines out of {list(ENGINES)}, got {unknown}.")
    if missing := [name for name in names if not ENGINES[name].is_installed]:
        extras = ",".join(sorted({ENGINES[name].extra or "" for name in missing}))
        raise ValueError(
            f"Expected the engines of {missing} to be installed, they are not. Run"
            f" `pip install 'axformer-lightning[{extras}]'`."
        )


def put_into(
    engine: Engine, model: PreTrainedModel, where: Path, *, threads: int | None = None, int8: bool | None = None
) -> tuple[Run, int]:
    """Return what runs a model in an engine, and the bytes of the file that it is read from.

    Args:
        engine: what runs it.
        model: in float32; it stays as it is.
        where: a directory, which is made, for the file.
        threads: of ONNX Runtime and OpenVINO; PyTorch has its own setting.
        int8: of an engine in int8, as :func:`~axformer_lightning.exporting.export_model` takes it. If everything
            is to be in static int8, ranges are those of one token, repeated: time does not depend on them.

    Returns:
        A function of a batch, which returns the first output in float32, and the bytes.
    """
    if engine.format is None:
        return _in_torch(model, engine.dtype, where)
    if engine.static and int8 and not any(layer.int8 for layer in layers_left(model)):
        model = _in_static_int8(model)
    where.mkdir(parents=True, exist_ok=True)
    path = where / f"model{FORMATS[engine.format].suffix}"
    read = read_exported(
        export_model(model, path, int8=int8 if engine.int8 else False, overwrite=True), threads=threads
    )

    def run(batch: Batch) -> Tensor:
        ids = batch["input_ids"]
        implied = {"attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        arrays = {name: value.numpy() for name, value in {**implied, **batch}.items()}
        return torch.from_numpy(np.asarray(next(iter(read(arrays).values()))))

    return run, sum(file.stat().st_size for file in where.iterdir())


def seconds_of_run(run: Any, batch: Batch) -> float:
    """Return the seconds of one call, as :func:`axformer_lightning.timing.seconds_of` does of a model's."""
    return seconds_of_call(partial(run, batch), batch["input_ids"].device)


def _in_static_int8(model: PreTrainedModel) -> PreTrainedModel:
    own: PreTrainedModel = copy.deepcopy(model).eval()
    layers = layers_left(own)
    with observing(own, layers) as observed, torch.no_grad():
        own(**uniform_batch(own, 2, 16))
    ranges = observed.together(lambda mine: [mine])
    apply_plan_(own, replace(plan_of(own), layers=all_in_int8(own, layers, ranges)))
    return own


def _in_torch(model: PreTrainedModel, dtype: torch.dtype, where: Path) -> tuple[Run, int]:
    own = copy.deepcopy(model).eval()
    own.to(dtype=dtype)
    save_pretrained(own, where)

    def run(batch: Batch) -> Tensor:
        with torch.inference_mode():
            first: Tensor = own(**batch)[0]
            return first.float()

    return run, (where / "model.safetensors").stat().st_size
