"""Records of runs without their models: what a page is made of, to be kept or put together from several machines."""

import shutil
from pathlib import Path

from axformer_lightning.basics import replacing
from axformer_lightning.evidence.predictions import FILE
from axformer_lightning.report.checking import CHECKS
from axformer_lightning.report.records import read_records

KEPT = (*CHECKS, "plan.json", ".hydra/*.yaml", ".resume/run.json", f"*/{FILE}*.npz")


def keep_records(directory: Path, target: Path) -> list[str]:
    """Copy what a page is made of from the runs of a directory that are done, without weights.

    A page of the copies says what one of the runs would, so runs of several machines can be shown on one.

    Args:
        directory: of a run, or of several at any depth.
        target: a directory, which is made. A run that is there by the same name is replaced file by file, and what
            the new one lacks is removed.

    Returns:
        The names of the runs, relative to ``directory``; of a run's own directory its name.

    Raises:
        FileNotFoundError: if there is no such directory.
        ValueError: if it holds no run that is done, or ``target`` is inside of it or the other way around.
    """
    one, other = directory.resolve(), target.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise ValueError(f"Expected a directory apart from {str(directory)!r} for the records, got {str(target)!r}.")
    done = [record for record in read_records(directory) if record.is_done]
    if not done:
        raise ValueError(f"Expected runs that are done in {str(directory)!r}, found none. Let them finish first.")
    names = [one.name if record.name == "." else record.name for record in done]  # beside others in the target
    for record, name in zip(done, names, strict=True):
        files = _kept_in(record.directory)
        for file in files:
            copy = target / name / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            with replacing(copy) as temporary:
                shutil.copyfile(record.directory / file, temporary)
        for stale in {*_kept_in(target / name)} - {*files}:
            (target / name / stale).unlink()
    return names


def _kept_in(directory: Path) -> list[Path]:
    """Return the files of a run that a page is made of, relative to its directory."""
    return sorted(path.relative_to(directory) for pattern in KEPT for path in directory.glob(pattern))
