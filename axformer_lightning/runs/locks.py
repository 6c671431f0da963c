"""The lock of a run's directory, which the kernel releases when the process dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

FOLDER, LOCK = ".resume", "lock"


class DirectoryInUseError(RuntimeError):
    """Another process runs in the directory."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory against all other processes.

    Raises:
        DirectoryInUseError: if a live process holds it.
    """
    path = directory / FOLDER / LOCK
    for _ in range(10):  # who only asks whether it is locked locks it for a moment
        if (file := _held(path)) is not None:
            break
        time.sleep(0.05)
    else:
        raise DirectoryInUseError(
            f"Expected a directory in which nothing runs, got {os.fspath(directory)!r}, which a live process uses."
            " Wait until it has ended, or choose another `hydra.run.dir`."
        )
    with file:
        yield


def give_up(directory: Path) -> None:
    """Remove the lock of a directory that this process holds, and its folder, if nothing else is in there."""
    (directory / FOLDER / LOCK).unlink()
    with suppress(OSError):  # a process that waits for the lock makes both anew
        (directory / FOLDER).rmdir()


def _held(path: Path) -> TextIO | None:
    """Return the file of a lock, held by this process; None if another one holds it, or has just given it up."""
    path.parent.mkdir(exist_ok=True)
    try:
        file = path.open("a", encoding="utf-8")  # which changes neither content nor time
    except FileNotFoundError:
        return None
    if _lock(file) and _is_at(path, file):
        return file
    file.close()
    return None


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_in_use(directory: Path) -> bool:
    """Tell whether a live process runs in a directory.

    Example:
        >>> import tempfile
        >>> directory = Path(tempfile.mkdtemp())
        >>> (directory / FOLDER).mkdir()
        >>> with locked(directory):
        ...     is_in_use(directory)
        True
        >>> is_in_use(directory)
        False
    """
    try:
        with (directory / FOLDER / LOCK).open("a", encoding="utf-8") as file:
            return not _lock(file)
    except FileNotFoundError:
        return False
