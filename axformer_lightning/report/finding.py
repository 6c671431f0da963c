"""The directories of runs."""

from collections.abc import Iterator
from pathlib import Path

SIGNS = ("results.json", ".resume/run.json", ".hydra/config.yaml", "state.json")  # of a run's directory


def runs_in(directory: Path) -> list[Path]:
    """Return the directories of runs in a directory, or itself, in the order of their names; each once.

    What is inside of a run belongs to it. A link is followed where it leads to what has no other name here.

    Args:
        directory: of a run, or of a sweep, at any depth.
    """
    seen: set[Path] = set()
    found: list[Path] = []
    waiting = [directory]
    while waiting:
        found += _walk(waiting.pop(0), seen, waiting)
    return sorted(found, key=lambda path: [(len(part), part) for part in path.relative_to(directory).parts])


def _walk(directory: Path, seen: set[Path], links: list[Path]) -> Iterator[Path]:
    """Yield runs in a directory that was not seen, and add links to directories to those that are followed later."""
    if (real := directory.resolve()) in seen:
        return
    seen.add(real)
    if any((directory / sign).exists() for sign in SIGNS):
        yield directory
        return
    for inner in sorted(directory.iterdir()):
        if not inner.is_dir() or inner.name.startswith("."):
            continue
        if inner.is_symlink():
            links.append(inner)
        else:
            yield from _walk(inner, seen, links)
