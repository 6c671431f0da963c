"""The table of a sweep's jobs, while they run and at the end."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from axformer_lightning.multirun.driver import Sweep
from axformer_lightning.multirun.jobs import Job
from axformer_lightning.runs.state import DONE, FAILED, HALTED, INTERRUPTED, RUNNING

COLOURS = {DONE: "green", FAILED: "red", INTERRUPTED: "yellow", HALTED: "blue", RUNNING: "cyan"}
WAITING = "waiting"


def jobs_table(sweep: Sweep, directory: Path) -> Table:
    """Return the jobs of a sweep: how each stands, what came of it or why not, and how much time is left.

    Args:
        sweep: the jobs, and which run.
        directory: of the sweep.
    """
    states = {job: state_of(sweep, job) for job in sweep.jobs}
    done = sum(state == DONE for state in states.values())
    title = Text(f"{directory}: {done} of {len(states)} jobs done")  # rich reads brackets in plain strings as markup
    table = Table(title=title, caption=time_left(sweep), box=None)
    for name in ("job", "settings", "state", "stage, result or reason", "time"):
        table.add_column(name, overflow="fold")
    names = settings_of(sweep.jobs)
    for job, state in states.items():
        said = Text(state, COLOURS.get(state, "dim"))
        row = (Text(job.directory.name), Text(names[job]), said, Text(detail(job, state)))
        table.add_row(*row, _clock(_seconds(job, state)))
    return table


def state_of(sweep: Sweep, job: Job) -> str:
    """Return how a job stands, in a word."""
    said = job.state
    if any(process.job == job for process in sweep.running):
        return RUNNING
    if job in sweep.waiting and not job.runs_elsewhere:
        return WAITING
    return WAITING if said is None else said.state


def settings_of(jobs: Sequence[Job]) -> dict[Job, str]:
    """Return the overrides of each job that not all of them share."""
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    return {job: " ".join(words for words in job.overrides if words not in shared) for job in jobs}


def detail(job: Job, state: str) -> str:
    """Return what there is to say of a job: its stage, its headline metric, or why it ended."""
    said = job.state
    if state == DONE:
        results = job.results
        metric = next(iter(results["axformer"]["metrics"]))
        dense, cut = (_points(results[side]["metrics"][metric]) for side in ("baseline", "axformer"))
        return f"{metric} {dense} -> {cut}"
    if said is None or state == WAITING:
        return ""
    return said.stage if state == RUNNING else said.reason


def _points(metric: float | None) -> str:
    """Return a metric in points; one that is not finite is null in JSON."""
    return "-" if metric is None else f"{100 * metric:.2f}"


def time_left(sweep: Sweep) -> str:
    """Return about how long the rest takes, judged by the jobs that are done."""
    took = [state.seconds for job in sweep.jobs if (state := job.state) and state.state == DONE and state.seconds]
    if not took or not (sweep.waiting or sweep.running):
        return ""
    each = sum(took) / len(took)
    running = [max(0.0, each - (_seconds(process.job, RUNNING) or 0.0)) for process in sweep.running]
    rest = (sum(running) + each * len(sweep.waiting)) / len(sweep.slots)
    return f"about {_clock(rest)} left"


def _seconds(job: Job, state: str) -> float | None:
    said = job.state
    if said is None or said.began is None or state == WAITING:
        return None
    return (time.time() if said.ended is None else said.ended) - said.began


def _clock(seconds: float | None) -> str:
    """Return a duration in hours, minutes and seconds.

    Example:
        >>> _clock(3725.0)
        '1:02:05'
    """
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def told(sweep: Sweep, before: dict[Job, str]) -> list[str]:
    """Return a line for each job whose state has changed, and remember the states: for output that is no terminal."""
    names = settings_of(sweep.jobs)
    lines = []
    for job in sweep.jobs:
        state = state_of(sweep, job)
        if before.get(job, WAITING) != state:
            said = "" if state == RUNNING else detail(job, state)
            lines.append(f"{state}: {job.directory.name} {names[job]} {said}".rstrip())
        before[job] = state
    return lines
