"""SHA-256 sums of files, in the format of `sha256sum`: a flipped bit in weights or numbers looks like any other."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

SUMS_FILE = "SHA256SUMS"


def write_sums(directory: Path, names: Sequence[str]) -> None:
    """Write the sums of the files ``names`` beside them."""
    (directory / SUMS_FILE).write_text("".join(f"{line}\n" for line in _lines(directory, names)), encoding="utf-8")


def check_sums(directory: Path, names: Sequence[str]) -> None:
    """Raise unless the files ``names`` are those that were saved; without a file of sums nothing is known of them.

    Raises:
        ValueError: naming those that differ.
    """
    path = directory / SUMS_FILE
    if not path.is_file():
        return
    saved = path.read_text(encoding="utf-8", errors="replace").splitlines()
    changed = [name for name, line in zip(names, _lines(directory, names), strict=True) if line not in saved]
    if changed:
        raise ValueError(
            f"Expected the files {changed} in {os.fspath(directory)!r} to be as they were saved, but their SHA-256 is"
            f" not the one in {SUMS_FILE!r}. Copy or download the directory again; after a change on purpose, delete"
            f" {SUMS_FILE!r}."
        )


def _lines(directory: Path, names: Sequence[str]) -> list[str]:
    return [f"{_sum(directory / name)}  {name}" for name in names]


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
