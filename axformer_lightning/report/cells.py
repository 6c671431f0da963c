"""Runs that differ in nothing but the seed, side by side: a cell of the table of results."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from axformer_lightning.basics import flattened, number_of
from axformer_lightning.report.records import Model, Record

# Options that tell no setting from another: what cells are made by, where things are, and what is shown.
BESIDE = (
    "task.name", "model.pretrained", "seed", "retrain_dense",
    "data_dir", "hydra", "resume", "sweep", "trainer.accelerator", "trainer.devices", "trainer.num_nodes",
    "trainer.strategy",
    "logger", "returned", "trainer.enable_checkpointing", "trainer.enable_model_summary",
    "trainer.enable_progress_bar", "trainer.log_every_n_steps",
)  # fmt: skip
CHOICES = ("task", "model")  # beside as well, of themselves: what is changed in a group tells settings apart
NOT_OF_THE_RECIPE = ("pruning", "hard_attention", "int8", "predict_test", "task.copies")  # distillation.copies says it
# How overrides begin that cut nothing.
OF_FINE_TUNING = ("data.", "model.", "task.", "trainer.", "finetune_epochs=", "trim_vocabulary=", "corpus=")
PLAIN, DENSE, ONLY, DEFAULT = "dense, plain", "dense, same recipe", "AxFormer", "default settings"


@dataclass(frozen=True)
class Outcome:
    """A model of a finished run.

    Args:
        record: the run.
        model: the model.
    """

    record: Record
    model: Model


@dataclass(frozen=True)
class Cell:
    """Runs of one task, model and setting.

    Args:
        task: its name.
        model: name of the pre-trained model.
        setting: what tells it from others, in words.
        outcomes: of the runs that are done, one for each seed.
        unfinished: the other runs, which no number is taken from.
        recipe: how the runs train.
        title: what a page calls the task and the model.
    """

    task: str
    model: str
    setting: str
    outcomes: tuple[Outcome, ...]
    unfinished: tuple[Record, ...]
    recipe: tuple[Any, ...]
    title: str

    @property
    def headline(self) -> str:
        """The metric that counts."""
        return self._first.headline

    @property
    def is_dense(self) -> bool:
        """Whether these are baselines of the same recipe."""
        return self._first.is_dense

    @property
    def is_plain(self) -> bool:
        """Whether these are what others are cut from, and nothing else."""
        return self._first.is_plain

    @property
    def is_baseline(self) -> bool:
        """Whether nothing was to be cut."""
        return self._first.is_baseline

    @property
    def _first(self) -> Record:
        return (*(outcome.record for outcome in self.outcomes), *self.unfinished)[0]

    @property
    def values(self) -> list[float]:
        """The metric of each model, as fractions; NaN of one that has diverged."""
        return [number_of(outcome.model.metrics[self.headline]) for outcome in self.outcomes]

    @property
    def dense_values(self) -> list[float]:
        """The metric of the dense model that each was cut from."""
        return [number_of(outcome.record.results["baseline"]["metrics"][self.headline]) for outcome in self.outcomes]


def cells_of(records: Sequence[Record]) -> tuple[list[Cell], list[str]]:
    """Return the cells of some runs, those of a task together and baselines first, and what was left out of them.

    Args:
        records: as :func:`~axformer_lightning.report.records.read_records` gives them.
    """
    names, titles = setting_names(records), _titles(records)
    grouped: dict[tuple[Any, ...], list[tuple[Record, Model | None]]] = {}
    cells, notes = [], []
    for record in records:
        made: dict[str, Model | None] = {model.label: model for model in record.models}
        untold = [label for label in record.expected if label and label not in made]
        if not record.is_done:
            made = dict.fromkeys(record.expected) | made
        elif untold:
            told = ", ".join(untold)
            notes.append(
                f"{record.name} is done, but pareto.json does not tell of its models {told}: they are left out."
            )
        for suffix, model in made.items():
            label = " ".join(filter(None, (names[record.name], suffix)))
            key = (record.task, record.model, not record.is_baseline, label, recipe_of(record))
            grouped.setdefault(key, []).append((record, model))
    for (task, model_name, _, label, recipe), members in sorted(grouped.items(), key=lambda item: _in_order(item[0])):
        outcomes: dict[Any, Outcome] = {}
        for record, model in members:
            if model is not None and record.seed in outcomes:
                notes.append(
                    f"{record.name} repeats seed {record.seed} of {outcomes[record.seed].record.name}: left out."
                )
            elif model is not None:
                outcomes[record.seed] = Outcome(record, model)
        unfinished = tuple(record for record, model in members if model is None)
        in_order = tuple(outcomes[seed] for seed in sorted(outcomes, key=lambda seed: (seed is None, seed)))
        cells.append(Cell(task, model_name, label, in_order, unfinished, recipe, titles[task, model_name]))
    return cells, notes


def _titles(records: Sequence[Record]) -> dict[tuple[str, str], str]:
    """Return by task and model what a page calls them: the task alone where it has one model that is compared."""
    titles = {}
    for task, model in dict.fromkeys((record.task, record.model) for record in records):
        own = [record for record in records if record.task == task]
        compared = {record.model for record in own if not record.is_plain} or {record.model for record in own}
        titles[task, model] = task if compared == {model} else f"{task}, {model}"
    return titles


def _in_order(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what cells are sorted by: baselines first, and 2x before 10x."""
    task, model, is_cut, label, _ = key
    pieces = re.split(r"(\d+(?:\.\d+)?)", label)
    return task, model, is_cut, [(piece, 0.0) if i % 2 == 0 else ("", float(piece)) for i, piece in enumerate(pieces)]


def setting_names(records: Sequence[Record]) -> dict[str, str]:
    """Return what tells the setting of each run from others, by the run's name.

    These are the overrides that not all runs share, less those by which all runs of a task are fine-tuned; where
    overrides were not kept, the values that differ; where the configuration was not kept either, the run's name.

    Args:
        records: of runs.
    """
    given = {record.name: _given(record) for record in records}
    cut = [given[record.name] for record in records if not record.is_baseline] or list(given.values())
    shared, tasks = set.intersection(*map(set, cut)), _of_tasks(records)
    if not any(given.values()):
        given, shared = _differing(records), set()
    dense = _in_all([given[record.name] for record in records if record.is_dense])
    plain = _in_all([given[record.name] for record in records if record.is_plain])
    names = {}
    for record in records:
        left = given[record.name] - tasks[record.task, record.model]
        own = " ".join(sorted(left - shared))
        if record.is_plain:
            own = " ".join(sorted(filter(_fine_tunes, left - plain)))
            names[record.name] = f"{PLAIN} ({own})" if own else PLAIN
        elif record.is_dense:
            own = " ".join(sorted(left - dense))
            names[record.name] = f"{DENSE} ({own})" if own else DENSE
        elif not record.config and not record.overrides and len(records) > 1:
            names[record.name] = record.name  # nothing says what it is, so it is no seed of another
        else:
            names[record.name] = own or (ONLY if all(words == shared for words in cut) else DEFAULT)
    return names


def shared_overrides(records: Sequence[Record]) -> dict[str, list[str]]:
    """Return the overrides that no setting names: of all runs that cut a model, and those of a single task's runs."""
    every = _in_all([_given(record) for record in records if not record.is_baseline])
    found = {"All runs share": sorted(every)}
    for (task, model), own in _of_tasks(records).items():
        found[f"All runs of {task}, {model} share"] = sorted(own - every)
    return {words: overrides for words, overrides in found.items() if overrides}


def _of_tasks(records: Sequence[Record]) -> dict[tuple[str, str], set[str]]:
    """Return, by task and model, the overrides that all runs share and that say how the dense model is made."""
    found: dict[tuple[str, str], set[str]] = {}
    for record in records:
        own = {*filter(_fine_tunes, _given(record))}
        found[record.task, record.model] = found.get((record.task, record.model), own) & own
    return found


def recipe_of(record: Record) -> tuple[Any, ...]:
    """Return how a run trains: everything in its configuration but the seed and what is cut; empty if unknown.

    What is null counts as left out, as options are that came after a run.
    """
    if not record.config:
        return ()
    flat = flattened(record.config)
    parts = {name: value for name, value in flat.items() if not _is_beside(name, NOT_OF_THE_RECIPE)}
    pruning = record.config.get("pruning") or {}
    again = {"again.rounds": pruning.get("rounds", 1), "again.retrain": pruning.get("retrain", "continue")}
    return tuple(sorted((name, repr(value)) for name, value in (parts | again).items() if value is not None))


def _given(record: Record) -> set[str]:
    """Return the overrides that tell a setting; ratios are said by the label of each model."""
    given = {words.lstrip("+") for words in record.overrides if not _is_beside(words.lstrip("+~").partition("=")[0])}
    return {words for words in given if len(record.expected) == 1 or not words.startswith("pruning.ratios=")}


def _in_all(sets: Sequence[set[str]]) -> set[str]:
    return sets[0].intersection(*sets) if sets else set()


def _fine_tunes(override: str) -> bool:
    return override.startswith(OF_FINE_TUNING)


def _is_beside(name: str, others: Sequence[str] = ()) -> bool:
    """Tell whether an option says nothing of the setting, or is one of others or in one of them.

    Example:
        >>> [_is_beside(name) for name in ("seed", "trainer.devices", "task", "task.copies", "pruning.tolerance")]
        [True, True, True, False, False]
    """
    return name in CHOICES or any(name == one or name.startswith(f"{one}.") for one in (*BESIDE, *others))


def _differing(records: Sequence[Record]) -> dict[str, set[str]]:
    """Return the values of each configuration that not all runs of its task and model have."""
    flat = {
        record.name: {name: value for name, value in flattened(record.config).items() if not _is_beside(name)}
        for record in records
    }
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((record.task, record.model), []).append(flat[record.name])
    found = {}
    for record in records:
        others = groups[record.task, record.model]
        differ = {name for one in others for name in one if any(other.get(name) != one[name] for other in others)}
        found[record.name] = {f"{name}={flat[record.name].get(name)}" for name in differ & {*flat[record.name]}}
    return found


def tasks_of(cells: Iterable[Cell]) -> Iterator[tuple[str, str]]:
    """Yield each task and model once, in order."""
    yield from dict.fromkeys((cell.task, cell.model) for cell in cells)
