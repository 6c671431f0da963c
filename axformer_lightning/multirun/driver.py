"""Runs jobs side by side until each has ended, or somebody stops them all."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from axformer_lightning.multirun.jobs import LOG, Job, environment, settle
from axformer_lightning.multirun.slots import Slot
from axformer_lightning.runs.state import FAILED, State

GRACE = 30.0  # seconds that a job has to end by itself once it is told to
PAUSE = 0.2  # seconds between two looks at the jobs


@dataclass(frozen=True)
class Process:
    """A job that this sweep runs.

    Args:
        job: the job.
        slot: where it runs.
        popen: its process.
        before: what the job said before.
    """

    job: Job
    slot: Slot
    popen: subprocess.Popen[bytes]
    before: State | None


@dataclass
class Sweep:
    """Jobs, and which of them wait or run; changed by :func:`run_jobs` only.

    Args:
        jobs: all of them.
        slots: where they run.
        waiting: the jobs that are to be run.
        running: the processes that run.
        signum: the signal by which the sweep was stopped.
    """

    jobs: Sequence[Job]
    slots: Sequence[Slot]
    waiting: list[Job] = field(default_factory=list)
    running: list[Process] = field(default_factory=list)
    signum: int | None = None


def run_jobs(
    jobs: Sequence[Job], slots: Sequence[Slot], *, retry: bool = False, on_change: Callable[[Sweep], None]
) -> Sweep:
    """Run the jobs that are not done, each in a process of its own. A job that fails stops no other.

    SIGTERM and SIGINT of this process stop the jobs, which end by themselves: they say that they were interrupted.
    A job that another process runs is waited for; where it fails there, it has failed here.

    Args:
        jobs: in the order in which they begin.
        slots: as many run at a time.
        retry: whether jobs that have failed before are tried again.
        on_change: called again and again.
    """
    sweep = Sweep(jobs, slots, waiting=[job for job in jobs if _is_due(job, retry)])
    with _stopped_by_signals(sweep):
        try:
            while (sweep.waiting or sweep.running) and sweep.signum is None:
                _start(sweep, retry)
                time.sleep(PAUSE)
                _reap(sweep)
                on_change(sweep)
        finally:  # also where nobody reads any more what is shown
            _stop(sweep)
        on_change(sweep)
    return sweep


def _is_due(job: Job, retry: bool) -> bool:
    state = job.state
    return not job.is_done and (retry or state is None or state.state != FAILED)


def _start(sweep: Sweep, retry: bool) -> None:
    """Start what has a free slot, and nobody else runs."""
    for job in list(sweep.waiting):
        if not _is_due(job, retry):  # done by somebody else since, or failed
            sweep.waiting.remove(job)
        elif (slot := _free(sweep)) is not None and not job.runs_elsewhere:
            sweep.waiting.remove(job)
            job.directory.mkdir(parents=True, exist_ok=True)
            with (job.directory / LOG).open("ab") as log:
                popen = subprocess.Popen(
                    job.command,
                    env=environment(slot.threads, slot.device),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # the keyboard interrupts this process alone, which tells the jobs
                )
            sweep.running.append(Process(job, slot, popen, job.state))


def _free(sweep: Sweep) -> Slot | None:
    taken = [process.slot for process in sweep.running]
    left = list(sweep.slots)
    for slot in taken:
        left.remove(slot)
    return left[0] if left else None


def _reap(sweep: Sweep) -> None:
    """Take leave of the processes that have ended."""
    for process in list(sweep.running):
        status = process.popen.poll()
        if status is None:
            continue
        sweep.running.remove(process)
        if status and process.job.runs_elsewhere:  # somebody else was a moment faster
            sweep.waiting.append(process.job)
        else:
            settle(process.job, process.before, status)


def _stop(sweep: Sweep) -> None:
    """End what runs: kindly, then not."""
    for process in sweep.running:
        process.popen.terminate()
    deadline = time.monotonic() + GRACE
    for process in list(sweep.running):
        try:
            process.popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.popen.pid, signal.SIGKILL)
            process.popen.wait()
    _reap(sweep)


@contextmanager
def _stopped_by_signals(sweep: Sweep) -> Iterator[None]:
    def stop(signum: int, frame: FrameType | None) -> None:
        sweep.signum = signum

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
