"""A job of a sweep: its directory, its command, and how it stands."""

import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from axformer_lightning.runs.commands import quoted
from axformer_lightning.runs.configured import DENSE_DIR
from axformer_lightning.runs.locks import is_in_use
from axformer_lightning.runs.resume import RESULTS
from axformer_lightning.runs.state import DONE, FAILED, INTERRUPTED, RUNNING, State, last_line, read_state

LOG = "job.log"
OWN = (
    "hydra.run.dir=",
    "hydra.sweep.",
    "hydra.mode=",
    "hydra/launcher=",
    "hydra.launcher.",
    "hydra/sweeper=",
    "hydra.sweeper.",
)  # of the sweep, not a job


@dataclass(frozen=True)
class Job:
    """A run of a sweep.

    Args:
        directory: of the run, named by what its results depend on.
        overrides: that make it, as on the command line.
        command: that runs it.
    """

    directory: Path
    overrides: tuple[str, ...]
    command: tuple[str, ...]

    @property
    def results(self) -> dict[str, Any]:
        """What results.json holds, nothing where there is none."""
        try:
            found: dict[str, Any] = json.loads((self.directory / RESULTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    @property
    def state(self) -> State | None:
        """What the job says of itself; done only with its results."""
        state = read_state(self.directory)
        return None if state is not None and state.state == DONE and not self.results else state

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state is not None and self.state.state == DONE

    @property
    def runs_elsewhere(self) -> bool:
        """Whether a process that lives is at it."""
        return self.state is not None and self.state.state == RUNNING and is_in_use(self.directory)


def job_of(config: DictConfig, overrides: Sequence[str]) -> Job:
    """Return the job that some overrides make.

    Args:
        config: of the job as Hydra composed it, with `hydra`.
        overrides: as Hydra's sweeper gives them.
    """
    sweep = Path(str(config.hydra.sweep.dir)).absolute()
    directory = sweep / str(OmegaConf.select(config, "hydra.sweep.subdir"))
    own = {
        "hydra.run.dir": directory,
        "hydra.mode": "RUN",
        "resume": "true",
        "sweep.dense_dir": config.sweep.dense_dir or sweep / DENSE_DIR,
        "++trainer.enable_progress_bar": "false",  # of many at a time no bar can be read
    }
    hydra = [words for words in config.hydra.overrides.hydra if not words.startswith(OWN)]
    given = [*overrides, *hydra, *(f"{name}={quoted(str(value))}" for name, value in own.items())]
    return Job(directory, tuple(overrides), (sys.executable, sys.argv[0], *_flags(config), *given))


def _flags(config: DictConfig) -> list[str]:
    """Return the flags that say where the configuration is."""
    flags = ["--config-name", str(config.hydra.job.config_name)]
    for source in config.hydra.runtime.config_sources:
        if source.provider == "command-line":
            flags += ["--config-dir", str(source.path)]
        elif source.provider == "main" and source.schema == "file":
            flags += ["--config-path", str(source.path)]
    return flags


def environment(threads: int, device: str | None, outside: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a job.

    Args:
        threads: that it computes with, where the user does not say it.
        device: the GPU that it sees; None for all that there are.
        outside: environment of the sweep.

    Example:
        >>> environment(2, "1", {"HOME": "/root"})
        {'OMP_NUM_THREADS': '2', 'HOME': '/root', 'CUDA_VISIBLE_DEVICES': '1'}
    """
    chosen = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
    return {"OMP_NUM_THREADS": str(threads)} | dict(outside) | chosen


def settle(job: Job, before: State | None, status: int) -> None:
    """Let a job whose process has ended without a word say how it ended: a killed process cannot.

    Args:
        job: whose process has ended.
        before: its state before the process began.
        status: of its end; negative, or 128 more, for the signal that killed it.
    """
    state = read_state(job.directory)
    if (status == 0 or (state != before and state is not None and state.state != RUNNING)) or is_in_use(job.directory):
        return
    stage, began = ("", None) if state is None else (state.stage, state.began)
    signum = -status if status < 0 else status - 128  # the latter of train.py, which says so itself once it has begun
    if status < 0 or signum in (signal.SIGINT, signal.SIGTERM):
        end = State(INTERRUPTED, f"Killed by {signal.Signals(signum).name}.", stage, began, time.time())
    else:
        said = (job.directory / LOG).read_text(encoding="utf-8", errors="replace")
        end = State(FAILED, last_line(said) or f"Exit status {status}.", stage, began, time.time())
    end.write(job.directory)
