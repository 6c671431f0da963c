"""The parts of a report on searches, costs, calibration and where all of it ran."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from axformer_lightning.evidence import Predictions, calibration_of
from axformer_lightning.report import charts, search_charts
from axformer_lightning.report.cells import Cell, Outcome
from axformer_lightning.report.picture import plan_figure
from axformer_lightning.report.records import Record
from axformer_lightning.report.sections import NONE, Image, Section, Table

# What stages are called that fine-tune, search and retrain.
STAGES = (("finetune",), ("search", "shrink", "int8_search"), ("retrain", "int8_retrain"))
OF_RATIO = re.compile(r"(?:shrink|retrain|model-)(\d+(?:\.\d+)?(?:e\+\d+)?)x")  # what is of one ratio of several
MOST_PICTURES = 12  # of a kind; a sweep has a picture for each setting, and some have hundreds


def removed(cells: Sequence[Cell]) -> Section | None:
    """Return what was removed of each layer, and how often over seeds; of a single run everything in detail."""
    images: list[Image] = []
    for cell, last in _cut(cells):
        plans = [outcome.record.plan for outcome in last if outcome.record.plan is not None]
        if not plans or len({plan.num_layers for plan in plans}) > 1:
            continue
        title = f"{_name(cell)}: removed of each block" + (f", {len(plans)} seeds" if len(plans) > 1 else "")
        images.append(Image(f"removed-{len(images)}", title, *search_charts.removed(plans)))
        if len(plans) == 1 and len(cells) == 1:
            images.append(Image("plan", f"{_name(cell)}: heads and neurons that are left", plan_figure(plans[0]), {}))
    words = ("Which share of each block is removed, the mean over seeds; below it, in how many seeds all of it is.",)
    return (
        Section("What was removed", (*words, *_most(images)), images=tuple(images[:MOST_PICTURES])) if images else None
    )


def timelines(cells: Sequence[Cell]) -> Section | None:
    """Return the course of searches, one for each setting."""
    images: list[Image] = []
    for cell, last in _cut(cells):
        first = next((o.record for o in last if o.record.plan is not None and o.record.plan.decisions), None)
        if first is None or first.plan is None:
            continue
        figure, said = search_charts.timeline(first.plan.decisions)
        tried, accepted = len(first.plan.decisions), sum(one.accepted for one in first.plan.decisions)
        title = f"{_name(cell)}, seed {first.seed}: {accepted} of {tried} candidates accepted"
        images.append(Image(f"timeline-{len(images)}", title, figure, said))
    words = ("Of each setting the first seed. Point at a mark to see which candidate it is. A candidate that was"
             " stopped early stands at the loss before it, one far above the rest at the upper edge.",)  # fmt: skip
    shown = tuple(images[:MOST_PICTURES])
    return Section("The search", (*words, *_most(images)), images=shown, is_folded=len(images) > 2) if images else None


def damages(cells: Sequence[Cell]) -> Section | None:
    """Return the damage that was measured for each block and width, of the first run of each setting that kept it."""
    images: list[Image] = []
    seen = set()
    for cell, last in _cut(cells):
        first = next((outcome.record for outcome in last if outcome.record.damage), None)
        if first is None or first.name in seen:
            continue
        seen.add(first.name)
        title = f"{_name(cell)}, seed {first.seed}: damage of each width before the first cut"
        images.append(Image(f"damage-{len(images)}", title, *search_charts.damage(first.damage[0])))
    words = ("What it does on the search set if one block keeps that many units, is repaired, and all others stay"
             " whole: how far the answers of a classifier go from those before, or how the loss changes. A number is a"
             " layer.",)  # fmt: skip
    shown = tuple(images[:MOST_PICTURES])
    return Section("Damage of each width", (*words, *_most(images)), images=shown) if images else None


def costs(cells: Sequence[Cell]) -> Section | None:
    """Return what searches and training took, the mean over seeds."""
    header = ("task", "setting", "seeds", "fine-tuning (s)", "search (s)", "retraining (s)", "candidates", "accepted",
              "work of a plain search")  # fmt: skip
    rows = []
    for cell in cells:
        if not cell.outcomes:
            continue
        records = [outcome.record for outcome in cell.outcomes]
        searches: list[dict[str, Any]] = [record.results.get("search") or {} for record in records]
        pairs = [(s.get("layer_tokens"), s.get("exhaustive_layer_tokens")) for s in searches]
        work = [done / whole for done, whole in pairs if done is not None and whole]
        rows.append(
            (
                cell.title, cell.setting, str(len(records)),
                *(_mean([_seconds(outcome, stage) for outcome in cell.outcomes], 1) for stage in STAGES),
                *(_mean([s.get(name) for s in searches], 0) for name in ("candidates", "accepted")),
                NONE if len(work) < len(records) else f"{100 * sum(work) / len(work):.1f} %",
            )
        )  # fmt: skip
    words = ("Seconds of the process that finished the stage; a search is all rounds, or all cuts down to a budget, of"
             " several ratios all down to the model's own. The last column is the work done as a share of running the"
             " whole model for every candidate.",)  # fmt: skip
    return Section("Cost of search and training", words, (Table(header, tuple(rows), words=2),)) if rows else None


def calibration(cells: Sequence[Cell]) -> Section | None:
    """Return how well models know what they know, the mean over seeds; of a single run bin by bin."""
    rows: list[tuple[str, ...]] = []
    images: list[Image] = []
    for cell in cells:
        found = [(outcome, pair) for outcome in cell.outcomes if (pair := _calibrations(outcome)) is not None]
        if not found:
            continue
        errors = [_mean([100 * pair[side].error for _, pair in found], 1) for side in (0, 1)]
        rows.append((cell.title, cell.setting, str(len(found)), *errors))
        if len(images) < 2 and not cell.is_baseline:
            first, (dense, cut) = found[0]
            figure, said = charts.reliability([("dense", dense), ("AxFormer", cut)])
            title = f"{_name(cell)}, seed {first.record.seed}: how often right, how sure"
            images.append(Image(f"calibration-{len(images)}", title, figure, said))
    words = ("Expected calibration error in points, 15 bins, on dev: the mean distance between how sure a model is and"
             " how often it is right.",)  # fmt: skip
    table = Table(("task", "setting", "seeds", "dense, plain", "this model"), tuple(rows), words=2)
    return Section("Calibration", words, (table,), tuple(images)) if rows else None


def runs(records: Sequence[Record], notes: Sequence[str]) -> Section:
    """Return all runs with their states, and what could not be read."""
    rows = tuple(
        (record.name, record.task, NONE if record.seed is None else str(record.seed), record.state,
         " ".join(record.overrides) or NONE, record.reason or NONE)
        for record in records
    )  # fmt: skip
    table = Table(("directory", "task", "seed", "state", "overrides", "reason"), rows, words=6)
    words = (*notes, *(note for record in records for note in record.notes))
    return Section("Runs", words, (table,), is_folded=len(records) > 12 and all(record.is_done for record in records))


def environments(records: Sequence[Record]) -> Section:
    """Return where and by which commands the runs were made."""
    kept = [record.environment for record in records if record.environment]
    words, commands = [], dict.fromkeys(str(one.get("command", "")) for one in kept)
    for said in dict.fromkeys(_machine(one) for one in kept):
        words.append(said)
    if len(kept) < len(records):
        words.append(f"{len(records) - len(kept)} of {len(records)} runs kept no environment.")
    return Section("Environment and commands", tuple(words), code=tuple(filter(None, commands)))


def _machine(one: dict[str, Any] | Any) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in (one.get("packages") or {}).items() if version)
    gpus = ", ".join(one.get("gpus") or ()) or "no GPU"
    return (
        f"{one.get('processor')}, {one.get('cores')} cores, {one.get('threads')} threads,"
        f" {(one.get('memory_bytes') or 0) / 2**30:.0f} GiB, {gpus}; {one.get('system')}; Python {one.get('python')},"
        f" {packages}; commit {one.get('commit') or 'unknown'}"
    )


def _cut(cells: Sequence[Cell]) -> Iterator[tuple[Cell, tuple[Outcome, ...]]]:
    """Yield the cells of cut models, with the outcomes that a run's plan belongs to: those of its last model."""
    for cell in cells:
        last = tuple(outcome for outcome in cell.outcomes if outcome.model is outcome.record.models[-1])
        if last and not cell.is_dense:
            yield cell, last


def _calibrations(outcome: Outcome) -> tuple[Any, Any] | None:
    try:
        sides = [Predictions.load(folder) for folder in (outcome.record.directory / "finetuned", outcome.model.folder)]
    except (FileNotFoundError, ValueError):
        return None
    dense, cut = map(calibration_of, sides)
    return None if dense is None or cut is None else (dense, cut)


def _seconds(outcome: Outcome, stages: tuple[str, ...]) -> float | None:
    """Return what the stages took that a model came of: of a run's several ratios not what came of the others."""
    kept = outcome.record.environment.get("seconds")
    if kept is None:
        return None
    ratios = {name: float(found[1]) for name in kept if (found := OF_RATIO.fullmatch(name))}
    most, found = max(ratios.values(), default=0.0), OF_RATIO.fullmatch(outcome.model.folder.name)
    own = float(found[1]) if found else most  # `model/` is that of the largest
    others = {name for name, x in ratios.items() if x > own or (x < own and name.startswith("retrain"))}
    others |= {name for name in kept if name.startswith("int8") and own < most}  # int8 follows the last cut
    took: float = sum(value for name, value in kept.items() if name.startswith(stages) and name not in others)
    return took


def _mean(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):,.{digits}f}" if known and len(known) == len(values) else NONE


def _name(cell: Cell) -> str:
    return f"{cell.title}, {cell.setting}"


def _most(images: Sequence[Image]) -> list[str]:
    more = len(images) - MOST_PICTURES
    return [f"{more} more settings are not drawn. Report a directory with fewer of them."] if more > 0 else []
