"""The formats, a row each: how a file is written, and how it is read and run."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.exporting.graph import dynamic_shapes
from axformer_lightning.exporting.notes import Notes
from axformer_lightning.exporting.quiet import quietly
from axformer_lightning.exporting.rounding import part_weights_, round_graph_

logger = logging.getLogger(__name__)
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Exported:
    """An exported model that was read back.

    Args:
        notes: what its file says of it.
        run: gives its outputs for its inputs, both by name.
    """

    notes: Notes
    run: Callable[[Arrays], dict[str, np.ndarray]]

    def __call__(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return the outputs for ``arrays``, of which those that the model does not read are left out.

        Raises:
            ValueError: if an input is missing, or has more tokens than the model has positions for.
        """
        self.notes.check(arrays)
        return self.run({name: np.ascontiguousarray(arrays[name]) for name in self.notes.inputs})


@dataclass(frozen=True)
class Ready:
    """A model that is ready to be written.

    Args:
        model: in floats, as :func:`axformer_lightning.exporting.graph.plain_copy` makes it.
        batch: to trace it with.
        notes: to be kept in the file.
        int8: the modules to be in int8, by name.
        ranges: of those that are in static int8, by name.
        opset: version of ONNX's operators.
    """

    model: PreTrainedModel
    batch: dict[str, Any]
    notes: Notes
    int8: dict[str, nn.Module]
    ranges: dict[str, tuple[float, float]]
    opset: int


@dataclass(frozen=True)
class Format:
    """A format of files.

    Args:
        suffix: what names of its files end in.
        extra: of this package, which installs what it needs; None for the core.
        needs: the modules that have to be there.
        write: makes the file, and what belongs beside it.
        read: gives the model back, to be run with a number of threads (None: as many as the engine likes).
        has_int8: whether it computes in int8.
        beside: what the names of files end in that belong beside it.
    """

    suffix: str
    extra: str | None
    needs: tuple[str, ...]
    write: Callable[[Ready, Path], None]
    read: Callable[[Path, int | None], Exported]
    has_int8: bool
    beside: tuple[str, ...] = ()

    def check_installed(self, name: str) -> None:
        """Raise unless what the format needs is installed.

        Raises:
            ModuleNotFoundError: naming the extra.
        """
        if missing := [module for module in self.needs if find_spec(module) is None]:
            raise ModuleNotFoundError(
                f"Expected {missing} to be installed for the format {name!r}, got none. Run"
                f" `pip install 'axformer-lightning[{self.extra}]'`.",
                name=missing[0],
            )


def _onnx_model(ready: Ready, *, fused: bool) -> Any:
    from transformers.exporters import OnnxConfig  # type: ignore[attr-defined]
    from transformers.exporters.exporter_onnx import OnnxExporter
    from transformers.exporters.onnxruntime_fusions import fuse_for_onnxruntime

    config = OnnxConfig(dynamic_shapes=dynamic_shapes(ready.batch), opset_version=ready.opset)
    with quietly(), torch.no_grad():
        model = OnnxExporter().export(ready.model, ready.batch, config=config).program
        if (written := model.opset_imports[""]) != ready.opset:  # the exporter warns at most
            raise ValueError(
                f"Expected an opset that the exporter knows, got {ready.opset}, for which it writes {written}. Take one"
                " that your engine reads, or leave it out."
            )
        round_graph_(model, ready.int8, ready.ranges, between_floats=not fused)
        if fused:
            fuse_for_onnxruntime(model, "cpu")
            part_weights_(model)
    model.metadata_props.update(ready.notes.to_text())
    return model


def _write_onnx(ready: Ready, path: Path) -> None:
    import onnx_ir

    onnx_ir.save(_onnx_model(ready, fused=True), path)


def exact_options() -> Any:
    """Return the options of a session of ONNX Runtime that computes int8 alike on every processor.

    Without VNNI its faster products overflow, and the engine gives other answers than the search decided by. With VNNI
    they are exact, and the slower ones are not asked for.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "0" if _has_vnni() else "1")
    return options


def _has_vnni() -> bool:
    """Tell whether this processor is known to multiply int8 without overflow; older versions of torch do not say."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni"))


def _read_onnx(path: Path, threads: int | None) -> Exported:
    import onnxruntime

    options = exact_options()
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common
        raise ValueError(f"Cannot read {str(path)!r} with ONNX Runtime: {error}") from error
    notes = Notes.from_text(session.get_modelmeta().custom_metadata_map, str(path))
    names = [output.name for output in session.get_outputs()]
    return Exported(notes, lambda arrays: dict(zip(names, session.run(None, dict(arrays)), strict=True)))


def _write_openvino(ready: Ready, path: Path) -> None:
    import onnx_ir
    import openvino

    if any(isinstance(module, nn.Linear) and name not in ready.ranges for name, module in ready.int8.items()):
        logger.warning(
            "OpenVINO is slower in dynamic int8 than in floats. Make the model by `quantize(..., static=True)` to have"
            " the ranges that static int8 needs."
        )
    plain = path.with_suffix(".onnx")
    onnx_ir.save(_onnx_model(ready, fused=False), plain)
    model = openvino.convert_model(plain)
    for name, text in ready.notes.to_text().items():
        model.set_rt_info(text, name)
    openvino.save_model(model, path, compress_to_fp16=False)
    plain.unlink()


def _read_openvino(path: Path, threads: int | None) -> Exported:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}  # the default is bf16 where the CPU has it
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    try:
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", settings)
    except Exception as error:
        raise ValueError(f"Cannot read {str(path)!r} with OpenVINO: {error}") from error
    told = {name: value.value if hasattr(value, "value") else value for name, value in model.get_rt_info().items()}
    notes = Notes.from_text({name: str(text) for name, text in told.items()}, str(path))

    def run(arrays: Arrays) -> dict[str, np.ndarray]:
        values = compiled(dict(arrays))
        return {name: values[i] for i, name in enumerate(notes.outputs)}

    return Exported(notes, run)


def _write_torch(ready: Ready, path: Path) -> None:
    from transformers.exporters import DynamoConfig  # type: ignore[attr-defined]
    from transformers.exporters.exporter_dynamo import DynamoExporter

    with quietly(), torch.no_grad():
        config = DynamoConfig(dynamic_shapes=dynamic_shapes(ready.batch))
        program = DynamoExporter().export(ready.model, ready.batch, config=config).program
        torch.export.save(program, path, extra_files=ready.notes.to_text())


def _read_torch(path: Path, threads: int | None) -> Exported:
    texts = dict.fromkeys(Notes("", (), (), (), 0, 0).to_text(), "")
    try:
        with quietly():
            program = torch.export.load(path, extra_files=texts).module()
    except Exception as error:
        raise ValueError(f"Cannot read {str(path)!r} with torch.export: {error}") from error
    notes = Notes.from_text(texts, str(path))
    if threads is not None:
        torch.set_num_threads(threads)

    def run(arrays: Arrays) -> dict[str, np.ndarray]:
        with torch.no_grad():
            outputs = program(**{name: torch.from_numpy(value) for name, value in arrays.items()})
        return {name: outputs[name].numpy() for name in notes.outputs}

    return Exported(notes, run)


FORMATS = {
    "onnx": Format(".onnx", "export", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _read_onnx, has_int8=True),
    "openvino": Format(
        ".xml",
        "openvino",
        ("openvino", "onnx", "onnxscript"),
        _write_openvino,
        _read_openvino,
        has_int8=True,
        beside=(".bin",),
    ),
    "torch": Format(".pt2", None, (), _write_torch, _read_torch, has_int8=False),
}
