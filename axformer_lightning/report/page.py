"""A run or a sweep on one page: `report.html`, `report.md`, and its pictures in `report/`."""

import logging
import math
import re
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from axformer_lightning.basics import replacing, write_atomically
from axformer_lightning.report import search_sections, sections
from axformer_lightning.report.cells import cells_of, shared_overrides
from axformer_lightning.report.comparisons import compare_cells
from axformer_lightning.report.numbers import numbers_of
from axformer_lightning.report.records import read_records
from axformer_lightning.report.sections import Image, Section, runs_of
from axformer_lightning.report.svg import on_page, style, svg_of

logger = logging.getLogger(__name__)
PAGE, TEXT, PICTURES = "report.html", "report.md", "report"
# Names of pictures that a page has; others in the folder are the user's.
DRAWN = re.compile(r"(gains|plan|front-.+|(removed|timeline|damage|calibration)-\d+)\.(png|svg)")


def write_report(directory: Path, *, floor: float | None = None) -> Path:
    """Write the report of a run or of a sweep into its directory, and return the path of the page.

    Files are replaced one by one, each wholly or not at all.

    Args:
        directory: of a run, or of several at any depth.
        floor: how many points may be lost; the page says of each setting whether that is shown.

    Raises:
        FileNotFoundError: if there is no such directory.
        ValueError: if it holds no run, or the floor is below 0.

    Example:
        >>> write_report(Path("nowhere"))
        Traceback (most recent call last):
        FileNotFoundError: Expected the directory of a run or a sweep, found none at 'nowhere'.
    """
    if floor is not None and not 0 <= floor < math.inf:
        raise ValueError(
            f"Expected `floor`, the points that may be lost, to be a finite number of at least 0, got {floor}."
        )
    with style():
        title, parts = _parts(directory, floor)
        drawn = _draw(directory / PICTURES, [image for section in parts for image in section.images])
        written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        content = {"title": title, "sections": parts, "drawn": drawn, "written": written}
        environment = Environment(
            loader=PackageLoader("axformer_lightning", "report"),
            autoescape=select_autoescape(["html"]),
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        environment.filters |= {
            "code": _code, "anchor": _anchor, "markdown": _markdown, "cell": _markdown_cell,
        }  # fmt: skip
        for name, template in ((PAGE, "page.html"), (TEXT, "page.md")):
            write_atomically(directory / name, environment.get_template(template).render(content))
    return directory / PAGE


def try_report(directory: Path) -> Path | None:
    """Write the report of a run or a sweep that has ended; what that fails by is said, and never fails the run.

    Args:
        directory: of the run or the sweep.

    Returns:
        The page; None if there is none.
    """
    try:
        return write_report(directory)
    except Exception as error:
        logger.warning("The page of %s could not be written: %s: %s", directory, type(error).__name__, error)
    return None


def _parts(directory: Path, floor: float | None) -> tuple[str, list[Section]]:
    records = read_records(directory)
    cells, notes = cells_of(records)
    numbers = [numbers_of(cell) for cell in cells]
    rows, more = compare_cells(cells)
    tasks = ", ".join(dict.fromkeys(record.task for record in records))
    seed = records[0].seed if len(records) == 1 else None
    title = f"{tasks}: {runs_of(len(records)) if seed is None else f'seed {seed}'}"
    notes += more
    if len(records) > 1:
        notes[:0] = [f"{words}: {' '.join(overrides)}." for words, overrides in shared_overrides(records).items()]
    shown = [(cell, one) for cell, one in zip(cells, numbers, strict=True) if not cell.is_plain]
    cut = [cell for cell, _ in shown]
    search = search_sections
    return title, list(
        sections.each(
            sections.overview(rows, records),
            sections.results(cells, numbers),
            sections.evidence(rows, floor),
            sections.fronts(cut, [one for _, one in shown]),
            search.removed(cut),
            search.timelines(cut),
            search.damages(cut),
            search.costs(cells),
            search.calibration(cells),
            search.runs(records, notes),
            search.environments(records),
        )
    )


def _draw(folder: Path, images: list[Image]) -> dict[str, Markup]:
    """Write the pictures, and return them by name as the page shows them."""
    folder.mkdir(exist_ok=True)
    shown = {}
    for image in images:
        with replacing(folder / f"{image.name}.png") as temporary:
            image.figure.savefig(temporary, format="png", dpi=130)
        svg = svg_of(image.figure)
        write_atomically(folder / f"{image.name}.svg", svg)
        shown[image.name] = Markup(on_page(svg, image.said, name=image.name, title=image.title))
    for stale in folder.iterdir():
        if DRAWN.fullmatch(stale.name) and stale.stem not in shown:
            stale.unlink(missing_ok=True)
    return shown


def _code(text: str) -> Markup:
    """Return a paragraph with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _markdown(text: str) -> str:
    r"""Return a text in which Markdown sees no tags: those that it does not know are left out of what is shown.

    Example:
        >>> print(_markdown("got <class 'int'>"))
        got \<class 'int'>
    """
    return text.replace("<", "\\<")


def _markdown_cell(text: str) -> str:
    return _markdown(text).replace("|", "\\|").replace("\n", " ")


def _anchor(title: str) -> str:
    """Return a name for links within the page.

    Example:
        >>> _anchor("Cost of search and training")
        'cost-of-search-and-training'
    """
    return "-".join(title.lower().split())
