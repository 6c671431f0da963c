"""The library of this process: loaded at first use, or one line in the log that says why there is none."""

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
_ARGUMENTS: tuple[Any, ...] = (*[_POINTER] * 7, _WHOLE, _WHOLE, ctypes.c_float, _WHOLE, _WHOLE)


def load() -> Any:
    """Return the C function, or None where it cannot be built; that is said in the log, once."""
    with _one_at_a_time:
        return _loaded()


@cache
def _loaded() -> Any:
    if os.environ.get("AXFORMER_KERNELS") == "0":
        return None
    try:
        function = ctypes.CDLL(str(build())).axformer_hard_attention
    except (BuildError, OSError) as error:
        log.warning("Hard attention is slower here than it could be, as its C++ cannot be built. %s", error)
        return None
    function.argtypes, function.restype = _ARGUMENTS, ctypes.c_int
    return function


# To torch.compile the answer is a constant, found while it traces: it cannot trace a compiler.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def available() -> bool:
    """Tell whether hard attention has its C++ kernel, after building it if need be.

    Not so inside :func:`switched_off`, with `AXFORMER_KERNELS=0`, or where it cannot be built.
    """
    return not _off.get() and load() is not None


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
