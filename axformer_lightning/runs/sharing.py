"""One fine-tuned model for all runs that train it alike."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from axformer_lightning.basics import replacing
from axformer_lightning.runs.leftovers import TAKING_OVER, remove_halves
from axformer_lightning.runs.resume import AFTER_FINE_TUNING, Progress
from axformer_lightning.runs.stages import Run, fine_tune

DENSE = "finetuned"


def fine_tuning_of(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return what fine-tuning depends on.

    Args:
        configuration: everything that the results of a run depend on.

    Example:
        >>> fine_tuning_of({"seed": 0, "pruning": {"tolerance": 0.1}, "retrain_epochs": 1, "predict_test": True})
        {'seed': 0}
    """
    return {name: part for name, part in configuration.items() if not name.startswith(AFTER_FINE_TUNING)}


def fine_tune_once(run: Run, epochs: int, shared: Path | None) -> dict[str, float]:
    """Fine-tune as :func:`~axformer_lightning.runs.stages.fine_tune` does, or take over what another run has made.

    One run at a time trains in ``shared``, the others wait; if it is killed, the next goes on where it was.

    Args:
        run: the run, nothing of which is done.
        epochs: of fine-tuning.
        shared: directory of the fine-tuned model, named by what it depends on; None shares nothing.

    Returns:
        The dense model's metrics on the dev set.
    """
    if shared is None or "finetune" in run.progress.done:
        return fine_tune(run, epochs)
    shared.mkdir(parents=True, exist_ok=True)
    run.progress.on_stage("wait for the dense model")
    with FileLock(shared / "lock"):  # the kernel releases it when the process dies
        remove_halves(shared)
        made = Progress(shared, on_stage=run.progress.on_stage)
        made.restore_(run.module)
        fine_tune(replace(run, directory=shared, progress=made), epochs)
        _take_over(shared / DENSE, run.directory / DENSE)
        with replacing(run.progress.folder / "stages.pt") as temporary:
            temporary.unlink()
            _link(shared / "stages.pt", temporary)
    run.progress.restore_(run.module)
    metrics: dict[str, float] = run.progress.done["finetune"]
    return metrics


def _take_over(source: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=TAKING_OVER))
    shutil.copytree(source, temporary, copy_function=_link, dirs_exist_ok=True)
    temporary.chmod(0o755)
    temporary.rename(target)


def _link(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give a file a second name, which costs no space; where that cannot be, copy it. Both are only ever replaced."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
