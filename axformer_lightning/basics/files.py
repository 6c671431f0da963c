"""Files that are never half written, and digests."""

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axformer_lightning.basics.mappings import finite


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file so that a reader sees either the old content or the new, even after a crash."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = 2) -> None:
    r"""Write plain values as JSON, as :func:`write_atomically` writes text; numbers that are not finite become null.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp(), "results.json")
        >>> write_json(target, {"loss": float("nan")}, indent=None)
        >>> target.read_text()
        '{"loss": null}\n'
    """
    write_atomically(path, json.dumps(finite(value), indent=indent, allow_nan=False) + "\n")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file to write to; it replaces ``path`` once it is complete and on the disk.

    A killed process leaves a file whose name ends in `.tmp`, and ``path`` unchanged.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp(), "weights.bin")
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_bytes(b"all of them")
        >>> target.read_bytes()
        b'all of them'
    """
    target = Path(path)
    temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")
    temporary.touch(exist_ok=False)  # with the rights that the user's umask leaves, unlike those of `tempfile`
    rights = temporary.stat().st_mode
    try:
        yield temporary
        _give_rights(temporary, rights)  # who writes to it may have put another file in its place
        _reach_the_disk(temporary)
        temporary.replace(target)
        _reach_the_disk(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def give_usual_rights(path: Path) -> None:
    """Give a file the rights that the user's umask leaves a new one: safetensors writes for the owner alone."""
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    new.touch(exist_ok=False)
    try:
        _give_rights(path, new.stat().st_mode)
    finally:
        new.unlink()


def _give_rights(path: Path, mode: int) -> None:
    if path.stat().st_mode != mode:  # not every disk lets rights be changed
        path.chmod(stat.S_IMODE(mode))


def digest_of(parts: Iterable[bytes]) -> bytes:
    """Return the SHA-256 of several byte strings, each with its length.

    Example:
        >>> digest_of([b"ab", b"c"]) == digest_of([b"a", b"bc"])
        False
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def _reach_the_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
