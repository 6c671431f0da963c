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
        target: a directory, which is made. A run that is there by the same name is replaced file by file.

    Returns:
        The names of the runs, relative to ``directory``.

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
    for record in done:
        for file in sorted(path for pattern in KEPT for path in record.directory.glob(pattern)):
            copy = target / record.name / file.relative_to(record.directory)
            copy.parent.mkdir(parents=True, exist_ok=True)
            with replacing(copy) as temporary:
                shutil.copyfile(file, temporary)
    return [record.name for record in done]
