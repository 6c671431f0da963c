"""The kernels of a kind of device: loaded at first use, or one line in the log that says why there is none."""

import ctypes
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from threading import Lock
from typing import Any

import torch

from axformer_lightning.kernels.building import BuildError, build

log = logging.getLogger(__name__)
_one_at_a_time = Lock()  # threads that attend for the first time wait for one build
_off: ContextVar[bool] = ContextVar("kernels_off", default=False)
_POINTER, _WHOLE = ctypes.c_void_p, ctypes.c_int64
_IN_CPP: dict[str, tuple[Any, ...]] = {  # arguments of each function
    "hard_attention": (*[_POINTER] * 7, _WHOLE, _WHOLE, ctypes.c_float, _WHOLE, _WHOLE),
    "keep_largest": (*[_POINTER] * 2, *[_WHOLE] * 6),
}


def load(device: str, name: str = "hard_attention") -> Any:
    """Return a function for a type of device, or None where there can be none; that is said in the log, once."""
    with _one_at_a_time:
        return _loaded(device).get(name)


@cache
def _loaded(device: str) -> dict[str, Any]:
    if os.environ.get("AXFORMER_KERNELS") == "0" or device not in ("cpu", "cuda"):
        return {}
    try:
        return _in_cpp() if device == "cpu" else _in_triton()
    except (BuildError, OSError) as error:
        log.warning("Hard attention is slower here than it could be, as its C++ cannot be built. %s", error)
    except (ImportError, RuntimeError) as error:
        log.warning("Hard attention is slower here than it could be, as its Triton cannot run. %s", error)
    return {}


def _in_cpp() -> dict[str, Any]:
    library = ctypes.CDLL(str(build()))
    functions = {name: getattr(library, f"axformer_{name}") for name in _IN_CPP}
    for name, function in functions.items():
        function.argtypes, function.restype = _IN_CPP[name], ctypes.c_int
    return functions


def _in_triton() -> dict[str, Any]:
    if torch.version.hip or not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        raise RuntimeError("Expected an NVIDIA GPU of compute capability 8.0 or more, got none.")
    from axformer_lightning.kernels.gpu import attend  # the only module that needs Triton

    return {"hard_attention": attend}


# To torch.compile the answer is a constant, found while it traces: it cannot trace a compiler.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def available(device: str = "cpu") -> bool:
    """Tell whether hard attention has its kernel: in C++, which is built if need be, or in Triton for a GPU.

    Not so inside :func:`switched_off`, with `AXFORMER_KERNELS=0`, or where it cannot be built or imported.

    Args:
        device: the type of device, "cpu" or "cuda"; others have none.
    """
    return not _off.get() and load(device) is not None


@contextmanager
def switched_off() -> Iterator[None]:
    """Attend without the kernels: with torch's operators alone, which any exporter knows, and with attention weights.

    Example:
        >>> with switched_off():
        ...     available()
        False
    """
    token = _off.set(True)
    try:
        yield
    finally:
        _off.reset(token)
