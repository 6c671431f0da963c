"""Build the C++ of this directory into a library in a cache directory, once for each compiler, processor and torch."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from ctypes import CDLL
from pathlib import Path

import torch

from axformer_lightning.basics import digest_of, replacing

HERE = Path(__file__).parent
UNITS = (HERE / "hard_attention.cpp", HERE / "largest.cpp")  # compiled one by one
SOURCES = (*UNITS, HERE / "vectors.h", HERE / "quantile.h")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fPIC")
# The first that compiles and loads. Threads are those of torch: the library is linked to no OpenMP of its own, as two
# pools of threads would wait for each other. Where the functions of torch's have other names, loading fails, and the
# next choice has one thread.
CHOICES = (("-march=native", "-fopenmp"), ("-march=native",), ("-mcpu=native",), ())
SECONDS = 120  # a compiler that takes longer hangs; it takes 2


class BuildError(RuntimeError):
    """The library cannot be built here; the message says why."""


def cache_directory() -> Path:
    """Return where built libraries are kept: `AXFORMER_CACHE`, or a directory in the user's cache.

    Raises:
        BuildError: if the user has no home directory.

    Example:
        >>> cache_directory().is_absolute()
        True
    """
    if directory := os.environ.get("AXFORMER_CACHE"):
        return Path(directory).absolute()
    try:
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "axformer_lightning"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "axformer_lightning"
    except RuntimeError as error:
        raise BuildError(
            "Expected a home directory, for a cache in it, got none. Name a cache by the variable AXFORMER_CACHE."
        ) from error


def build(*, again: bool = False) -> Path:
    """Return the library, compiled unless the cache directory has it.

    It is written to a temporary file and renamed, so processes that build at the same time do not disturb each other.

    Args:
        again: compile even if it is there.

    Raises:
        BuildError: if there is no compiler, or it fails, or the directory cannot be written to.
    """
    compiler = _compiler()
    library = cache_directory() / f"kernels-{_key(compiler)}.so"
    if not again and _loads(library) is None:
        return library
    try:
        library.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(library) as temporary:
            _compile(compiler, temporary)
    except OSError as error:
        raise BuildError(
            f"Expected a cache directory to write to, got {str(library.parent)!r} ({error.strerror})."
            " Name another by the environment variable AXFORMER_CACHE."
        ) from error
    return library


def _compiler() -> list[str]:
    try:
        asked = shlex.split(told := os.environ.get("CXX", ""))
    except ValueError as error:
        raise BuildError(f"Expected the command of a compiler in CXX, got {told!r}: {error}. Correct it.") from error
    names = (asked[0],) if asked else COMPILERS
    for name in names:
        if path := shutil.which(name):
            return [path, *asked[1:]]
    raise BuildError(
        f"Expected a C++ compiler, one of {names}, got none. Install one, or name it by the environment variable CXX."
    )


def _key(compiler: Sequence[str]) -> str:
    """Return a digest of all that the library depends on; a home directory may serve different machines."""
    told = (*compiler, *FLAGS, _run([*compiler, "--version"]), _processor(), torch.__version__)
    return digest_of([*(path.read_bytes() for path in SOURCES), *(text.encode() for text in told)]).hex()[:16]


def _processor() -> str:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    return f"{platform.machine()} {platform.processor()}"


def _compile(compiler: Sequence[str], library: Path) -> None:
    compiled = {unit: library.with_suffix(f".{unit.stem}.o") for unit in UNITS}
    reasons = []
    try:
        for choice in CHOICES:
            try:
                for unit, path in compiled.items():
                    _run([*compiler, *FLAGS, *choice, "-c", str(unit), "-o", str(path)])
                _run([*compiler, "-shared", *map(str, compiled.values()), "-o", str(library)])
            except BuildError as error:
                reasons.append(str(error))
                continue
            if (reason := _loads(library)) is None:
                return
            reasons.append(reason)
    finally:
        for path in compiled.values():
            path.unlink(missing_ok=True)
    raise BuildError(reasons[-1])


def _loads(library: Path) -> str | None:
    try:
        CDLL(str(library))
    except OSError as error:
        return str(error)
    return None


def _run(command: Sequence[str]) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"Expected the compiler to run, got {type(error).__name__}: {error}.") from error
    if ran.returncode:
        words = (ran.stderr or ran.stdout).strip().splitlines()
        said = next((line for line in words if "error" in line), words[0] if words else "nothing")
        raise BuildError(
            f"Expected the compiler to succeed, got exit status {ran.returncode} and {said!r}"
            f" from `{shlex.join(command)}`."
        )
    return ran.stdout
