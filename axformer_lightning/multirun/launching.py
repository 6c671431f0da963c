"""Between Hydra and the driver: overrides in, results out."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from omegaconf import DictConfig, open_dict
from rich.console import Console
from rich.live import Live

from axformer_lightning.multirun.driver import Sweep, run_jobs
from axformer_lightning.multirun.jobs import Job, job_of
from axformer_lightning.multirun.slots import make_slots, usable_cores, visible_devices
from axformer_lightning.multirun.table import detail, jobs_table, state_of, told
from axformer_lightning.report.page import try_report
from axformer_lightning.runs.configured import returned_value
from axformer_lightning.runs.leftovers import finish_page, remove_halves
from axformer_lightning.runs.locks import is_in_use


def launch(config: DictConfig, loader: Any, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    """Run the jobs of a sweep, or of one batch of a sweeper, and return what came of each.

    Args:
        config: of the sweep, with `hydra`.
        loader: Hydra's, which composes the configuration of a job.
        job_overrides: of each job.
        first: number of the first job.

    Raises:
        SystemExit: where Hydra's basic sweeper asks, if a job has not ended well; for any sweeper, if a signal came.
    """
    setup_globals()
    configs = [_configuration(config, loader, words, first + i) for i, words in enumerate(job_overrides)]
    jobs = [job_of(one, words) for one, words in zip(configs, job_overrides, strict=True)]
    directory = Path(str(config.hydra.sweep.dir))
    directory.mkdir(parents=True, exist_ok=True)
    slots = make_slots(config.sweep.jobs, visible_devices(), usable_cores())
    console = Console()
    unique = list({job.directory: job for job in jobs}.values())
    with _shown(console, directory) as show:
        sweep = run_jobs(unique, slots, retry=config.sweep.retry, on_change=show)
    for job in unique:
        if job.is_done and not is_in_use(job.directory):
            finish_page(job.directory)
    console.print(jobs_table(sweep, directory))
    if sweep.signum is not None:
        name = signal.Signals(sweep.signum).name
        sys.stderr.write(f"Stopped by {name}, and the jobs with it. The same command goes on where they were.\n")
        sys.exit(128 + sweep.signum)
    unfinished = [job for job in unique if not job.is_done]
    if str(config.hydra.sweeper._target_).endswith(".BasicSweeper"):  # other sweepers go by what comes back
        show_page(console, directory)
        if unfinished:
            logs = "job.log in its directory"
            sys.stderr.write(
                f"{len(unfinished)} of {len(unique)} jobs have not ended well: see {logs}. The same command resumes"
                " what was interrupted, and with sweep.retry=true tries again what failed.\n"
            )
            sys.exit(1)
    return [_returned(sweep, job, one) for job, one in zip(jobs, configs, strict=True)]


def show_page(console: Console, directory: Path) -> None:
    """Write the page of a sweep, and say where it is."""
    remove_halves(directory)
    if (page := try_report(directory)) is not None:
        console.print(f"All runs on one page: {page}", markup=False, emoji=False, highlight=False, soft_wrap=True)


def _configuration(config: DictConfig, loader: Any, overrides: Sequence[str], number: int) -> DictConfig:
    made: DictConfig = loader.load_sweep_config(config, list(overrides))
    with open_dict(made):
        made.hydra.job.id = made.hydra.job.num = number
    return made


def _returned(sweep: Sweep, job: Job, config: DictConfig) -> JobReturn:
    done = job.is_done
    value: Any = returned_value(config, job.results) if done else RuntimeError(detail(job, state_of(sweep, job)))
    status = JobStatus.COMPLETED if done else JobStatus.FAILED
    made = JobReturn(overrides=list(job.overrides), cfg=config, working_dir=str(job.directory), status=status)
    made.return_value = value
    return made


@contextmanager
def _shown(console: Console, directory: Path) -> Iterator[Any]:
    """Yield what shows a sweep: a table that changes in a terminal, else a line for each change."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield lambda sweep: live.update(jobs_table(sweep, directory))
        return
    before: dict[Job, str] = {}

    def show(sweep: Sweep) -> None:
        for line in told(sweep, before):
            console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)

    yield show
