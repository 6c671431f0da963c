"""A sweep whose settings are proposed by what came of those before: a study of optuna, kept on disk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.utils import instantiate
from optuna.trial import Trial, TrialState
from sqlalchemy.engine import URL

from axformer_lightning.multirun.spaces import Question
from axformer_lightning.runs.configured import Better

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
STOOD = "stood"  # name of what a trial's values were when it stopped before its retraining
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Args:
        values: of the objectives; None of one that failed.
        halted: whether it stopped before its retraining, and these are its values there.
        reason: why it failed.
        killed: whether something outside ended it, so that it can go on.
    """

    values: Sequence[float] | None
    halted: bool = False
    reason: str = ""
    killed: bool = False


RunTrials = Callable[[Sequence[Trial], bool], Sequence[Outcome]]  # trials, whether they stop before retraining


def open_study(directory: Path, name: str, directions: Sequence[Better], storage: str | None = None) -> optuna.Study:
    """Return the study of that name, as it stands, or a new one.

    Args:
        directory: of the sweep, where `study.db` is unless ``storage`` is elsewhere.
        name: of the study.
        directions: of each objective, `maximize` or `minimize`.
        storage: address of a data base, as optuna takes it.
    """
    own = URL.create("sqlite", database=str(directory.absolute() / "study.db")).render_as_string()
    return optuna.create_study(
        study_name=name,
        storage=storage or own.replace("{", "{{").replace("}", "}}"),  # which optuna takes for a template
        directions=list(directions),
        load_if_exists=True,
    )


def run_study(
    study: optuna.Study,
    space: Mapping[str, Question],
    run: RunTrials,
    *,
    n_trials: int,
    n_jobs: int,
    sampler: Mapping[str, Any],
    prune: float | None,
    prune_after: int,
) -> None:
    """Run trials, so many at a time, until so many have ended; those of a process that was killed go first.

    A trial's sampler is seeded by the trial's number, anew for each setting, and knows the batches before, so a study
    that was killed proposes what an undisturbed one does.

    Args:
        study: as :func:`open_study` returns it.
        space: what is asked for each trial.
        run: runs trials side by side.
        n_trials: how many end, those of earlier calls among them.
        n_jobs: how many are in a batch.
        sampler: a sampler of optuna as Hydra instantiates it, with its first `seed`.
        prune: share of the earlier trials that have to dominate a trial before its retraining for it to end there; None
            lets all train.
        prune_after: so many trials have to have stood there before one is pruned.
    """
    while len(study.get_trials(deepcopy=False, states=FINISHED)) < n_trials:
        trials = _batch(study, space, n_trials, n_jobs, sampler)
        outcomes = _outcomes(run, trials, prune is not None)
        halted = [trial for trial in trials if outcomes[trial].halted]
        for trial in halted:
            trial.set_user_attr(STOOD, list(outcomes[trial].values or ()))
        hopeless = [trial for trial in halted if prune is not None and is_hopeless(study, trial, prune, prune_after)]
        rest = [trial for trial in halted if trial not in hopeless]
        outcomes |= _outcomes(run, rest, False)
        for trial in trials:
            if trial in hopeless:
                study.tell(trial, state=TrialState.PRUNED)
            elif outcomes[trial].values is None:
                trial.set_user_attr("reason", outcomes[trial].reason)
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, list(outcomes[trial].values or ()))


def _outcomes(run: RunTrials, trials: Sequence[Trial], halt: bool) -> dict[Trial, Outcome]:
    """Return what came of trials; those that were killed go on once, as what kills a job twice is the job."""
    found: dict[Trial, Outcome] = {}
    for _ in range(2):
        if rest := [trial for trial in trials if trial not in found or found[trial].killed]:
            found |= dict(zip(rest, run(rest, halt), strict=True))
    return found


def _batch(
    study: optuna.Study, space: Mapping[str, Question], n_trials: int, n_jobs: int, sampler: Mapping[str, Any]
) -> list[Trial]:
    """Return what is left of a batch that was begun, or the next one."""

    def seed_(number: int, place: int = 0) -> None:
        own = number * (len(space) + 1) + place
        study.sampler = instantiate({**sampler, "seed": sampler["seed"] + own})

    trials = []
    for begun in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        seed_(begun.number)
        trials.append(Trial(study, begun._trial_id))  # optuna has no public name for it
    number = len(study.get_trials(deepcopy=False))
    while number < n_trials and (not trials or number % n_jobs):
        seed_(number)
        trials.append(study.ask())
        number += 1
    for trial in trials:
        seed_(trial.number)
        _ = trial.relative_params  # of samplers that propose several settings at once
        for place, (name, (method, options)) in enumerate(space.items(), 1):
            seed_(trial.number, place)  # what a killed process has proposed already draws no number
            getattr(trial, method)(name, **options)
    return trials


def is_hopeless(study: optuna.Study, trial: Trial, share: float, after: int) -> bool:
    """Tell whether a trial is to end before its retraining.

    With one objective and a share of one half this is optuna's median rule, which has no form for several.

    Args:
        study: of the trial.
        trial: has stood there.
        share: of the earlier trials that have to dominate it: at least as good in every objective, better in one.
        after: so many have to have stood there.
    """
    signs = [-1 if direction == optuna.study.StudyDirection.MAXIMIZE else 1 for direction in study.directions]

    def costs(values: Sequence[float]) -> list[float]:
        return [sign * value for sign, value in zip(signs, values, strict=True)]

    mine = costs(trial.user_attrs[STOOD])
    others = [
        costs(other.user_attrs[STOOD])
        for other in study.get_trials(deepcopy=False)
        if other.number < trial.number and STOOD in other.user_attrs
    ]
    dominating = [other for other in others if other != mine and all(a <= b for a, b in zip(other, mine, strict=True))]
    return len(others) >= after and 0 < share * len(others) <= len(dominating)
