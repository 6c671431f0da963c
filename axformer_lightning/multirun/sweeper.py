"""Between Hydra and a study: overrides in, jobs, a table of trials out."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from axformer_lightning.basics import check_at_least, write_atomically
from axformer_lightning.multirun.jobs import Job, job_of
from axformer_lightning.multirun.launching import show_page
from axformer_lightning.multirun.slots import make_slots, usable_cores, visible_devices
from axformer_lightning.multirun.spaces import space_of
from axformer_lightning.multirun.studies import Outcome, open_study, run_study
from axformer_lightning.runs.configured import (
    RETURNED,
    digest_of_configuration,
    returned_names,
    returned_value,
    run_name,
)
from axformer_lightning.runs.halting import read_halted
from axformer_lightning.runs.state import INTERRUPTED, RUNNING, State

SOLUTIONS = "optimization_results.yaml"  # as Hydra's sweepers call it


def sweep_by_study(
    config: DictConfig, loader: Any, launcher: Launcher, arguments: Sequence[str], options: DictConfig
) -> None:
    """Run a study to its end, in the sweep's directory, and show its trials.

    Args:
        config: of the sweep, with `hydra`.
        loader: Hydra's, which composes the configuration of a job.
        launcher: runs jobs.
        arguments: the overrides of the command line.
        options: of `hydra.sweeper`.

    Raises:
        ValueError: if nothing is swept over, an option is out of range, or another process works on the study.
        SystemExit: if a trial has failed.
    """
    check_options(options)
    params = [f"{name}={value}" for name, value in (options.params or {}).items()]
    fixed, space = space_of([*params, *arguments], loader)
    if not space:
        raise ValueError(
            "Expected a setting to search over, got none. Give one, for example 'pruning.tolerance=interval(0, 0.2)'."
        )
    names = returned_names(config)
    directory = Path(str(config.hydra.sweep.dir))
    directory.mkdir(parents=True, exist_ok=True)

    def job(words: Sequence[str]) -> tuple[Job, DictConfig]:
        made = loader.load_sweep_config(config, list(words))
        return job_of(made, words), made

    def run(trials: Sequence[Any], halt: bool) -> list[Outcome]:
        words = [[*fixed, *(f"{name}={value}" for name, value in trial.params.items())] for trial in trials]
        launcher.launch([[*one, f"sweep.halt={str(halt).lower()}"] for one in words], trials[0].number)
        return [outcome_of(*job(one)) for one in words]

    settings = {name: options[name] for name in ("n_trials", "prune", "prune_after")}
    n_jobs = options.n_jobs or len(make_slots(config.sweep.jobs, visible_devices(), usable_cores()))
    sampler: Any = OmegaConf.to_container(options.sampler, resolve=True)
    name = digest_of_configuration({"run": run_name(_root_=config), "space": space, "returned": names})
    try:
        with FileLock(directory / ".study.lock", timeout=0):
            study = open_study(directory, name, [RETURNED[one] for one in names], options.storage)
            run_study(study, space, run, n_jobs=n_jobs, sampler=sampler, **settings)
    except Timeout:
        raise ValueError(
            f"Expected a study on which nobody works, got that of {str(directory)!r}, which another process runs."
            " Wait until it has ended, or choose another `hydra.sweep.dir`."
        ) from None
    best = [trial.number for trial in study.best_trials]
    solutions = [{"params": trial.params, "values": trial.values} for trial in study.best_trials]
    found = OmegaConf.create({"name": "optuna", "returned": names, "solutions": solutions})
    write_atomically(directory / SOLUTIONS, OmegaConf.to_yaml(found))
    console = Console()
    console.print(_table(study.trials, names, best))
    show_page(console, directory)
    if failed := sum(trial.state.name == "FAIL" for trial in study.trials):
        sys.stderr.write(f"{failed} of {len(study.trials)} trials have failed: see job.log in their directories.\n")
        sys.exit(1)


def outcome_of(job: Job, config: DictConfig) -> Outcome:
    """Return what came of a job of a study.

    Args:
        job: has been launched.
        config: of the job, which names the objectives.
    """
    standing = None if job.is_done else read_halted(job.directory)
    if not job.is_done and standing is None:
        state = job.state or State(INTERRUPTED)  # it has not come to say anything
        return Outcome(None, reason=state.reason, killed=state.state in (INTERRUPTED, RUNNING))
    values = returned_value(config, standing or job.results)
    values = values if isinstance(values, tuple) else (values,)
    lost = [name for name, value in zip(returned_names(config), values, strict=True) if math.isnan(value)]
    if lost and standing is None:  # optuna takes no such values, and does not say why a trial has failed
        return Outcome(None, reason=f"It has ended well, but its {' and '.join(lost)} is no number.")
    return Outcome(values, halted=standing is not None)


def check_options(options: DictConfig) -> None:
    """Raise unless a study can be run by these options of `hydra.sweeper`.

    Raises:
        ValueError: naming the option that is out of range.
    """
    for name, least in {"n_trials": 1, "n_jobs": 1, "prune_after": 0, "sampler.seed": 0}.items():
        value = OmegaConf.select(options, name)
        if name == "n_jobs" and value is None:
            continue
        why = " It seeds the sampler of each trial, together with the trial's number." if "seed" in name else ""
        check_at_least(f"hydra.sweeper.{name}", value, least, why)
    prune = options.prune
    if prune is not None and not (type(prune) in (int, float) and 0 < prune <= 1):
        raise ValueError(
            f"Expected `hydra.sweeper.prune`, a share of trials, above 0 and up to 1, got {prune!r}. Set it to null to"
            " let all trials train to the end."
        )


def _table(trials: Sequence[Any], names: Sequence[str], best: Sequence[int]) -> Table:
    table = Table(title="Trials; * is beaten by none in everything", box=None)
    for name in ("", "trial", "settings", "state", *names):
        table.add_column(name, overflow="fold")
    for trial in trials:
        settings = " ".join(f"{name}={value}" for name, value in trial.params.items())
        values = [f"{value:.4f}" for value in trial.values or ()]
        state = f"{trial.state.name.lower()} {trial.user_attrs.get('reason', '')}".strip()
        # As Text, since rich reads brackets in plain strings as markup.
        table.add_row("*" if trial.number in best else "", str(trial.number), Text(settings), Text(state), *values)
    return table
