"""What a run keeps in its directory, so that one that was killed goes on where it was.

`.resume/` holds `run.json`, the configuration and whether the run has ended; `lock`, which the kernel releases when
the process dies; and, while the run lasts, `stages.pt` with what the finished stages left, beside the checkpoint or the
search journal of the stage that is being run.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from typing_extensions import override

from axformer_lightning.basics import check_type, flattened, replacing, write_atomically
from axformer_lightning.plan import Plan, applied_plan
from axformer_lightning.runs.leftovers import RECORD, put_back, record_of_finished, remove_halves
from axformer_lightning.runs.locks import FOLDER, LOCK, give_up, locked
from axformer_lightning.surgery import cut_
from axformer_lightning.tasks.module import FineTuner
from axformer_lightning.tasks.random_states import random_states, set_random_states

RESULTS = "results.json"
KEPT = {LOCK, RECORD}
# How settings begin that fine-tuning does not depend on.
AFTER_FINE_TUNING = (
    "pruning", "hard_attention", "retrain", "distillation", "int8", "report_stages", "predict_test",
)  # fmt: skip

T = TypeVar("T")


class Progress:
    """The finished stages of a run, each on disk before the next begins, and how long each took where it ended.

    Args:
        folder: where they are kept.
        finished: whether the run has ended.
        on_stage: is told the name of each stage that begins.
    """

    def __init__(
        self,
        folder: Path,
        *,
        finished: bool = False,
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self.folder = folder
        self.finished = finished
        self.on_stage = on_stage
        self.done: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}

    def restore_(self, module: FineTuner) -> None:
        """Put a module as it was loaded, and the random states, to where the last finished stage left them."""
        if not (self.folder / "stages.pt").exists():
            return
        state = _load(self.folder / "stages.pt")
        self.done, self.seconds = state["done"], state.get("seconds", {})
        if state["plan"] is not None:
            cut_(module.model, Plan.from_dict(state["plan"]))
        module.load_state_dict(state["weights"])
        module.model.config.problem_type = state["problem_type"]
        set_random_states(state["random"])
        for stage in self.done:
            self._forget(stage)

    def once(self, stage: str, module: FineTuner, do: Callable[[], T]) -> T:
        """Return what ``do`` returns; of a stage that is finished, what it returned in the process that finished it.

        Args:
            stage: names the stage; file names are made from it.
            module: what the stage trains or cuts.
            do: the stage. It returns plain types, and draws every random number that the run draws.
        """
        if stage in self.done:
            finished: T = self.done[stage]
            return finished
        self.on_stage(stage)
        began = time.monotonic()
        value = do()
        self.seconds[stage] = round(time.monotonic() - began, 3)
        plan = applied_plan(module.model)
        state = {
            "done": {**self.done, stage: value},
            "seconds": self.seconds,
            "plan": None if plan is None else plan.to_dict(),
            "weights": module.state_dict(),
            "problem_type": module.model.config.problem_type,  # set by the first forward with labels
            "random": random_states(),
        }
        with replacing(self.folder / "stages.pt") as temporary:
            torch.save(state, temporary)
        self._forget(stage)
        self.done[stage] = value
        return value

    def checkpoint(self, stage: str) -> Path:
        """Return where a stage that trains keeps its last epoch."""
        return self.folder / f"{stage}.ckpt"

    def journal(self, stage: str) -> Path:
        """Return where a stage that searches keeps its trials."""
        return self.folder / f"{stage}.jsonl"

    def finish(self) -> None:
        """Remember that the run has ended, and free the disk."""
        kept = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        write_atomically(self.folder / "run.json", json.dumps(kept | {"finished": True}, indent=2) + "\n")
        _clear(self.folder)

    def _forget(self, stage: str) -> None:
        for path in (self.checkpoint(stage), self.journal(stage)):
            path.unlink(missing_ok=True)


class LastEpoch(L.Callback):
    """Keeps a checkpoint of the last epoch that has ended.

    Args:
        path: of the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with replacing(self.path) as temporary:
            trainer.save_checkpoint(temporary, weights_only=False)


def epochs_done(checkpoint: Path) -> int:
    """Return after how many epochs a checkpoint was written."""
    return int(_load(checkpoint)["epoch"]) + 1


@contextmanager
def claim(directory: Path, configuration: Mapping[str, Any], *, resume: bool) -> Iterator[Progress]:
    """Hold a directory for one run, against all other processes; nothing in it changes if it is refused or finished.

    A run that fails before it has made anything leaves the record of the one whose results are there.

    Args:
        directory: of the run; exists.
        configuration: everything that the results depend on, in plain types.
        resume: whether to go on with the run in the directory; else one begins, whatever is there.

    Raises:
        ValueError: if the directory is of a run with another configuration, its record cannot be read, or ``resume`` is
            neither.
        DirectoryInUseError: if a live process runs in it.

    Example:
        >>> import tempfile
        >>> directory = Path(tempfile.mkdtemp())
        >>> with claim(directory, {"seed": 0}, resume=True) as progress:
        ...     write_atomically(directory / RESULTS, "{}")
        ...     progress.finish()
        >>> with claim(directory, {"seed": 0}, resume=True) as progress:
        ...     progress.finished
        True
        >>> with claim(directory, {"seed": 1}, resume=True) as progress:
        ...     pass
        Traceback (most recent call last):
        ValueError: Expected the configuration of the run in ..., got another one: seed is 1 and was 0. ...
    """
    check_type("resume", resume, bool)
    folder = directory / FOLDER
    record = folder / RECORD
    if resume and not record.exists() and (directory / RESULTS).exists():
        raise ValueError(
            f"Expected an empty directory or a run that can be resumed, got {os.fspath(directory)!r} with a"
            f" {RESULTS} of unknown configuration. Choose another `hydra.run.dir`."
        )
    finished = False
    with locked(directory):
        kept: Any = None
        former = record_of_finished(directory) if (directory / RESULTS).exists() and not resume else {}
        if resume and record.exists():
            with _reading(record):
                kept = json.loads(record.read_text(encoding="utf-8"))
                before, finished = kept["configuration"], kept["finished"] is True and (directory / RESULTS).exists()
            searched = finished or any(not stage.startswith("finetune") for stage in _stages_done(folder))
            _check_same(directory, configuration, before, but_for=() if searched else AFTER_FINE_TUNING)
            if flattened(before) != flattened(configuration):  # settings of stages that have not ended
                for path in folder.glob("*.ckpt"):
                    if not path.name.startswith("finetune"):
                        path.unlink()  # of a training by others
                kept["configuration"] = configuration
                write_atomically(record, json.dumps(kept, indent=2) + "\n")
        if not finished:
            remove_halves(directory)
        if kept is None:
            _clear(folder)
            kept = {"finished": False, "configuration": configuration}
            write_atomically(record, json.dumps(kept, indent=2) + "\n")
        try:
            yield Progress(folder, finished=finished)
        except BaseException as error:
            bare = {path.name for path in folder.iterdir()} == KEPT
            if bare and not json.loads(record.read_text(encoding="utf-8"))["finished"]:
                if not former:
                    record.unlink()  # nothing to resume, only in the way of other options
                    give_up(directory)
                elif isinstance(error, Exception):  # what was interrupted is to go on
                    put_back(former)
            raise


def _stages_done(folder: Path) -> list[str]:
    return list(_load(folder / "stages.pt")["done"]) if (folder / "stages.pt").exists() else []


def _check_same(directory: Path, mine: Mapping[str, Any], kept: Mapping[str, Any], but_for: Sequence[str] = ()) -> None:
    now, before = flattened(mine), flattened(kept)
    different = [
        f"{name} is {now.get(name, 'missing')!r} and was {before.get(name, 'missing')!r}"
        for name in sorted(now.keys() | before.keys())
        if now.get(name, ...) != before.get(name, ...) and not name.startswith(tuple(but_for))
    ]
    if different:
        raise ValueError(
            f"Expected the configuration of the run in {os.fspath(directory)!r}, got another one:"
            f" {', '.join(different)}. Give the same options, or choose another `hydra.run.dir`."
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"Cannot read {os.fspath(path)!r}: {error}. Leave out resume=true to begin the run anew."
        ) from error


def _load(path: Path) -> dict[str, Any]:
    with _reading(path):
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return state


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in KEPT:
            path.unlink()
