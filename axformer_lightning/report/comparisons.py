"""Every setting against the two dense baselines."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from axformer_lightning.evidence import Comparison, Predictions, compare, compared, corrected, gains_resampled
from axformer_lightning.report.cells import Cell, Outcome

PLAIN, SAME = "plain", "same recipe"
ALL_TASKS = "all tasks"
Pair = tuple[Predictions, Predictions]
_Trained = dict[int | None, tuple[Outcome, float]]  # by seed a dense model of the same recipe, and its metric


@dataclass(frozen=True)
class Row:
    """A setting of a task against a baseline.

    Args:
        task: its name, or `all tasks`.
        title: what a page calls it, with the model where it has several.
        setting: of the cut models.
        baseline: `plain`, the dense models they were cut from; or `same recipe`, dense ones that trained on alike.
        comparison: over seeds.
    """

    task: str
    title: str
    setting: str
    baseline: str
    comparison: Comparison


@dataclass(frozen=True)
class _Paired:
    """Of each seed what both sides are worth, and their predictions where they were kept."""

    metric: str
    values: dict[int | None, tuple[float, float]]
    pairs: dict[int | None, Pair]

    def pairs_of(self, seeds: Collection[int | None]) -> list[Pair]:
        """Return the predictions of these seeds; none at all unless all of them were kept and know the metric."""
        found = [self.pairs[seed] for seed in seeds if seed in self.pairs]
        is_whole = len(found) == len(seeds) and all(one.knows(self.metric) for pair in found for one in pair)
        return found if is_whole else []


def compare_cells(cells: Sequence[Cell]) -> tuple[list[Row], list[str]]:
    """Return every comparison that the runs allow, corrected for there being several, and what could not be read.

    Args:
        cells: of all tasks.
    """
    notes: list[str] = []
    dense = _baselines(cells)
    rows, by_setting = [], dict[tuple[str, str, str], list[tuple[str, _Paired]]]()
    for cell in cells:
        if cell.is_baseline or not cell.outcomes:
            continue
        for baseline, other in ((PLAIN, None), (SAME, dense.get((cell.task, cell.model, cell.recipe), {}))):
            paired = _paired(cell, other, notes)
            if not paired.values:
                continue
            try:
                comparison = compare(list(paired.values.values()), paired.metric, paired.pairs_of(paired.values))
            except ValueError as error:
                notes.append(f"{cell.title}, {cell.setting}: {error}")
                paired = replace(paired, pairs={})
                comparison = compare(list(paired.values.values()), paired.metric)
            by_setting.setdefault((cell.setting, cell.model, baseline), []).append((cell.task, paired))
            rows.append(Row(cell.task, cell.title, cell.setting, baseline, comparison))
    tasks: dict[str, set[str]] = {}  # of each model
    for cell in cells:
        if not cell.is_baseline:
            tasks.setdefault(cell.model, set()).add(cell.task)
    whole = {
        key: parts
        for key, parts in by_setting.items()
        if len(parts) > 1 and sorted(task for task, _ in parts) == sorted(tasks[key[1]])  # each once
    }
    has_several = len(tasks) > 1
    for (setting, model, baseline), of_tasks in whole.items():
        parts = [paired for _, paired in of_tasks]
        try:
            together = _together(parts)
        except ValueError as error:  # of seeds that no single task could be tested with
            notes.append(f"{ALL_TASKS}, {setting}: {error}")
            together = _together([replace(part, pairs={}) for part in parts])
        if together is not None:
            title = f"{ALL_TASKS}, {model}" if has_several else ALL_TASKS
            rows.append(Row(ALL_TASKS, title, setting, baseline, together))
    tested = corrected([row.comparison for row in rows])
    return [replace(row, comparison=one) for row, one in zip(rows, tested, strict=True)], notes


def _baselines(cells: Sequence[Cell]) -> dict[tuple[Any, ...], _Trained]:
    """Return the dense models of each task, model and recipe; what else was overridden does not tell them apart."""
    found: dict[tuple[Any, ...], _Trained] = {}
    for cell in cells:
        if cell.is_dense and cell.recipe:
            known = found.setdefault((cell.task, cell.model, cell.recipe), {})
            for outcome, value in zip(cell.outcomes, cell.values, strict=True):
                known.setdefault(outcome.record.seed, (outcome, value))
    return found


def _paired(cell: Cell, dense: _Trained | None, notes: list[str]) -> _Paired:
    """Pair the models of a cell with the dense ones they were cut from, or with those of the same seed in ``dense``."""
    values: dict[int | None, tuple[float, float]] = {}
    pairs: dict[int | None, Pair] = {}
    for outcome, before, after in zip(cell.outcomes, cell.dense_values, cell.values, strict=True):
        seed, folder = outcome.record.seed, outcome.record.directory / "finetuned"
        if dense is not None:
            if seed not in dense:
                continue
            other, before = dense[seed]
            folder = other.model.folder
        values[seed] = before, after
        try:
            pairs[seed] = Predictions.load(folder), Predictions.load(outcome.model.folder)
        except FileNotFoundError:
            continue
        except ValueError as error:
            notes.append(str(error))
    return _Paired(cell.headline, values, pairs)


def _together(parts: Sequence[_Paired]) -> Comparison | None:
    """Compare over all tasks: the mean over tasks for each seed that all have, and for each resample."""
    seeds = sorted(set.intersection(*(set(part.values) for part in parts)), key=str)
    if not seeds:
        return None
    gains = [
        100 * float(np.mean([after - before for before, after in (part.values[seed] for part in parts)]))
        for seed in seeds
    ]
    pairs = [part.pairs_of(seeds) for part in parts]
    resampled = None
    if all(pairs):
        drawn = [gains_resampled(pairs[i], part.metric, seed=i) for i, part in enumerate(parts)]
        resampled = np.mean(drawn, axis=0)
    return compared(gains, resampled)
