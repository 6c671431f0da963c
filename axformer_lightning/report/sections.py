"""The parts of a report, as words, tables and pictures that HTML and Markdown show alike."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from axformer_lightning.evidence import NEITHER, McNemar, Mean
from axformer_lightning.report import charts
from axformer_lightning.report.cells import Cell, tasks_of
from axformer_lightning.report.comparisons import ALL_TASKS, PLAIN, SAME, Row
from axformer_lightning.report.numbers import Numbers, is_drawn
from axformer_lightning.report.records import DONE, Record
from axformer_lightning.report.svg import Said

NONE = "-"
LONGEST_NAME = 48  # characters of a model's name in that of a file, which few disks allow more than 255 bytes
MANY = 12  # comparisons, of which not every one gets a sentence
SIGNS = {"better": "▲ ", "worse": "▼ "}


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        header: names of the columns.
        rows: cells as text.
        words: columns from the left that hold words; all others hold numbers.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


@dataclass(frozen=True)
class Image:
    """A picture.

    Args:
        name: of its files, without their endings.
        title: what it shows.
        figure: drawn within :func:`~axformer_lightning.report.svg.style`.
        said: what its marks say.
    """

    name: str
    title: str
    figure: Figure
    said: Said


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Args:
        title: its heading.
        words: paragraphs, below the heading.
        tables: below the words.
        images: below the tables.
        code: lines to copy, at the end.
        is_folded: whether it is shown only when asked for.
    """

    title: str
    words: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    images: tuple[Image, ...] = ()
    code: tuple[str, ...] = field(default=())
    is_folded: bool = False


def overview(rows: Sequence[Row], records: Sequence[Record]) -> Section:
    """Return what can be said in words."""
    states = Counter(record.state for record in records)
    words = []
    if len(records) > states[DONE]:
        listed = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        words.append(f"{runs_of(len(records))}: {listed}. No number comes from a run that is not done.")
    alike: dict[tuple[str, str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.task != ALL_TASKS):
        alike.setdefault((row.title, row.comparison.verdict, row.baseline), []).append(row)
    if len(rows) > MANY:  # what cannot be told of a single task is said once
        alike = {key: listed for key, listed in alike.items() if listed[0].task == ALL_TASKS or key[1] != NEITHER}
        open_ = sum(row.task != ALL_TASKS and row.comparison.verdict == NEITHER for row in rows)
        words.append(
            f"{open_} of {len(rows)} comparisons, all on single tasks, are not distinguishable at 95 %: see Evidence."
        )
    words += [_sentence(*key, listed) for key, listed in alike.items()]
    words += dict.fromkeys(row.comparison.limits for row in rows if row.comparison.limits)
    if not rows:
        words.append("No finished run that cut a model: there is nothing to compare.")
    return Section("In words", tuple(words))


def results(cells: Sequence[Cell], numbers: Sequence[Numbers]) -> Section:
    """Return the table of results: a row for each setting of each task, means and standard deviations over seeds."""
    rows = []
    for cell, one in zip(cells, numbers, strict=True):
        missing = Counter(record.state for record in cell.unfinished)
        rows.append(
            (
                f"{cell.task}, {cell.model}", cell.setting, one.metric or NONE, str(len(cell.outcomes)),
                _shown(one.points), _shown(one.dense),
                *(_times(ratio) for ratio in (one.smaller, one.file, one.faster, one.faster_alone)),
                ", ".join(f"{count} {state}" for state, count in missing.items()) or NONE,
            )
        )  # fmt: skip
    header = ("task", "setting", "metric", "seeds", "this model", "dense, plain", "encoder smaller", "file smaller",
              "batch of 32 faster", "single faster", "not done")  # fmt: skip
    words = (
        "Metric on dev times 100: mean ± standard deviation over the seeds that are done. Sizes and times are ratios to"
        " the dense model; times were measured on the machine named below.",
    )
    return Section("Results", words, (Table(header, tuple(rows), words=3),))


def evidence(rows: Sequence[Row], floor: float | None = None) -> Section | None:
    """Return what the differences to the dense models are worth.

    Args:
        rows: all comparisons.
        floor: points that may be lost; None asks for no verdict on that.
    """
    if not rows:
        return None
    header: tuple[str, ...]
    header = ("task", "setting", "against dense", "verdict", "seeds", "points gained", "over seeds, 95 %",
              "over dev samples, 95 %", "p (Holm)", "loses at most (95 %)")  # fmt: skip
    tests = [row.comparison.test for row in rows if row.comparison.test is not None]
    if tests:
        header = (*header, "McNemar: won, lost, p")
    if floor is not None:
        header = (*header, f"within {floor:g}")
    listed = []
    for row in rows:
        one = row.comparison
        p = one.p if one.corrected_p is None else one.corrected_p
        within = {True: "yes", False: "not shown", None: "not testable"}[one.loses_no_more_than(floor or 0)]
        least = NONE if one.least is None else f"{max(0.0, -one.least):.2f}"
        listed.append(
            (
                row.title, row.setting, row.baseline, SIGNS.get(one.verdict, "") + one.verdict, str(len(one.gains)),
                _gain(row), _interval(one.over_seeds.low, one.over_seeds.high),
                _interval(one.low, one.high), NONE if p is None else f"{p:.2g}", least,
                *([_mcnemar(one.test)] if tests else []), *([] if floor is None else [within]),
            )
        )  # fmt: skip
    words = [
        "Plain: the dense models that were cut. Same recipe: dense models that trained on as the cut ones did, with the"
        " same teacher, epochs and averaging; only a gain against these is due to the cut.",
        "A verdict needs both: Student's t over the paired differences of seeds, and the paired bootstrap over dev"
        " samples (of one seed's accuracy McNemar's exact test). The larger p counts, corrected by Holm's method for"
        f" all comparisons here ({len(rows)}). No decision was made on dev.",
    ]
    if not any(row.baseline == SAME for row in rows):
        words.append("No baseline of the same recipe is here. `retrain_dense=true` with the same options makes it.")
    if tests:
        words.append("McNemar: how many samples the cut model alone gets right, and how many the dense one alone.")
    title, drawn = "Points gained over the dense models, with 95 % intervals", [r for r in rows if not _is_lost(r)]
    images = (Image("gains", title, *charts.intervals(drawn)),) if drawn else ()
    return Section("Evidence", tuple(words), (Table(header, tuple(listed), words=4),), images)


def fronts(cells: Sequence[Cell], numbers: Sequence[Numbers]) -> Section | None:
    """Return the trade-off of metric, size and time, a picture for each task."""
    images: list[Image] = []
    for task, model in tasks_of(cells):
        chosen = [(c, n) for c, n in zip(cells, numbers, strict=True) if (c.task, c.model) == (task, model)]
        if any(not cell.is_dense and is_drawn(one.points) for cell, one in chosen):
            figure, said = charts.front(*zip(*chosen, strict=True))
            title = f"{task}, {model}: metric against size and time"
            name = f"front-{task}-{model.replace('/', '-')[-LONGEST_NAME:]}"
            name += f"-{len(images)}" if name in {image.name for image in images} else ""  # a/b is not a-b
            images.append(Image(name, title, figure, said))
    words = (
        "Bars are standard deviations over seeds. The line joins what no other setting beats in both directions. Dense"
        " models stand for all of their seeds; what a setting gains over those of its own seeds is under Evidence.",
    )
    return Section("Trade-off", words, images=tuple(images)) if images else None


def _sentence(title: str, verdict: str, baseline: str, rows: Sequence[Row]) -> str:
    than = {NEITHER: "from"}.get(verdict, "than")
    against = "the dense models that were cut" if baseline == PLAIN else "dense models of the same recipe"
    listed = ", ".join(f"{row.setting} ({_gain(row)}{'' if _is_lost(row) else ' points'})" for row in rows)
    return f"{title}: {verdict} {than} {against}: {listed}."


def _is_lost(row: Row) -> bool:
    """Tell whether a model has diverged, so that nothing can be said of the others either."""
    return not row.comparison.over_seeds.is_number


def _gain(row: Row) -> str:
    return "no number" if _is_lost(row) else f"{row.comparison.over_seeds.mean:+z.2f}"


def _shown(mean: Mean | None) -> str:
    return NONE if mean is None else f"{mean}"


def _times(mean: Mean | None) -> str:
    return NONE if mean is None else f"{mean.mean:.2f}x"


def _mcnemar(test: McNemar | None) -> str:
    return NONE if test is None else f"{test.won}, {test.lost}, {test.p:.2g}"


def _interval(low: float | None, high: float | None) -> str:
    return NONE if low is None or high is None else f"{low:+z.2f} to {high:+z.2f}"


def runs_of(number: int) -> str:
    """Return how many runs there are, in words.

    Example:
        >>> runs_of(1), runs_of(2)
        ('1 run', '2 runs')
    """
    return f"{number} run" if number == 1 else f"{number} runs"


def each(*sections: Section | None) -> Iterator[Section]:
    """Yield the sections that have something to show."""
    return (section for section in sections if section is not None)
