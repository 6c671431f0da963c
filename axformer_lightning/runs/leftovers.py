"""What runs before left in a directory: halves of files, and the record of one that has ended."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from axformer_lightning.basics import replacing
from axformer_lightning.report.page import PAGE, try_report
from axformer_lightning.runs.locks import FOLDER, LOCK
from axformer_lightning.runs.state import DONE, STATE, State, read_state

RECORD = "run.json"  # in the folder
MODELS = ("finetuned", "model")
FOLDERS = (FOLDER, ".hydra", "logs", "predictions", "report")  # of a run, with files in them
HALVES = "*.????????.tmp"  # what is written to before it replaces a file
TAKING_OVER = ".taking_over."  # how the name of a model begins that is taken over from another run; 8 signs follow


def remove_halves(directory: Path) -> None:
    """Remove what a killed process was writing: halves of this package's files and models, nothing of the user's."""
    models = [path for name in MODELS for path in directory.glob(f"{name}*/")]  # also `model-2x` and the like
    for folder in (directory, *(directory / name for name in FOLDERS), *models):
        for path in folder.glob(HALVES):
            path.unlink()
    saving = (half for folder in models for half in folder.glob(".saving.????????/"))
    for path in (*directory.glob(f"{TAKING_OVER}????????/"), *saving):
        shutil.rmtree(path)


def finish_page(directory: Path) -> None:
    """Write the page of a finished run that was killed while it drew it; copies of a run's records have none.

    What has no lock is such a copy: nothing ever ran there.
    """
    if (directory / FOLDER / LOCK).exists() and not (directory / PAGE).exists():
        remove_halves(directory)
        try_report(directory)


def finish_up(directory: Path) -> None:
    """Say of a finished run that it is done, and write its page, if it was killed after its last file."""
    if (state := read_state(directory)) and state.state != DONE:
        State(DONE, began=state.began).write(directory)
    finish_page(directory)


def record_of_finished(directory: Path) -> dict[Path, bytes]:
    """Return the files that say which run the results in a directory are of, and how it ended; none if it has not."""
    record = directory / FOLDER / RECORD
    try:
        finished = json.loads(record.read_text(encoding="utf-8"))["finished"] is True
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    files = (record, directory / STATE, *sorted((directory / ".hydra").glob("*.yaml"))) if finished else ()
    return {path: path.read_bytes() for path in files if path.is_file()}


def put_back(files: Mapping[Path, bytes]) -> None:
    """Write files as they were."""
    for path, content in files.items():
        with replacing(path) as temporary:
            temporary.write_bytes(content)
