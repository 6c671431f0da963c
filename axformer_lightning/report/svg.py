"""Matplotlib's figures as SVG for a page: colors from the page's style sheet, and a text for whatever is pointed at.

An SVG needs no script, prints, and can be mailed; colors that are CSS variables follow light and dark.
"""

import io
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

from axformer_lightning.basics.colors import BLUE, GRAY, GREEN, ORANGE, PALE, PINK, RED, SKY, YELLOW

INK, MUTED, GRID, PAPER = "#1b1b1f", "#66666e", "#d9d9e0", "#fffffe"
NAMES = {  # the page gives lighter ones on a dark ground
    INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", BLUE: "blue", ORANGE: "orange", GREEN: "green",
    PINK: "pink", SKY: "sky", YELLOW: "yellow", RED: "red",
    "#ffffff": "paper", PALE: "grid", GRAY: "muted",  # of the picture of a plan
}  # fmt: skip
SERIES = (BLUE, RED, GREEN, PINK, ORANGE, SKY, YELLOW)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # a setting has a color and a form: either tells it
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "axformer", "font.size": 9.5, "axes.titlesize": 10.5,
    "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.edgecolor": MUTED, "grid.color": GRID, "axes.grid": True,
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "figure.facecolor": PAPER, "axes.facecolor": "none", "savefig.facecolor": PAPER, "hatch.color": MUTED,
}  # fmt: skip
NAMESPACE = "http://www.w3.org/2000/svg"
Said = Mapping[str, Sequence[str]]  # by the `gid` of an artist, what each of its parts says


def style() -> AbstractContextManager[None]:
    """Return a context in which figures are drawn as the page wants them."""
    return mpl.rc_context(STYLE)


def svg_of(figure: Figure) -> str:
    """Return a figure that is drawn within :func:`style` as the text of an SVG file, the same for the same figure."""
    file = io.StringIO()
    with style():
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return file.getvalue()


def on_page(svg: str, said: Said | None = None, *, name: str, title: str) -> str:
    """Return an SVG file as an element of an HTML page; colors of ``NAMES`` become CSS variables.

    Args:
        svg: of :func:`svg_of`.
        said: texts that are shown when a mark is pointed at, in the order of the marks of the artist of that `gid`.
        name: of the picture, which no other one on the page has: ids within it are made from it.
        title: what the picture shows, for those who do not see it.

    Raises:
        ValueError: if an artist has not as many marks as texts.

    Example:
        >>> with style():
        ...     figure = Figure(figsize=(2, 1))
        ...     _ = figure.subplots().scatter([0, 1], [0, 1], color=BLUE, gid="points")
        >>> text = on_page(svg_of(figure), {"points": ["first", "second"]}, name="two", title="Two points")
        >>> text.count("<title>"), "var(--blue)" in text, BLUE in text
        (3, True, False)
    """
    ElementTree.register_namespace("", NAMESPACE)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(svg)
    for side in ("width", "height"):
        root.attrib.pop(side, None)
    root.set("role", "img")
    root.set("aria-label", title)
    root.insert(0, _title(title))
    for gid, texts in (said or {}).items():
        _say(root, gid, texts)
    text = ElementTree.tostring(root, encoding="unicode")
    for color, variable in NAMES.items():
        text = re.sub(re.escape(color), f"var(--{variable})", text, flags=re.IGNORECASE)
    return _own_names(text, name)


def _say(root: ElementTree.Element, gid: str, texts: Sequence[str]) -> None:
    group = root.find(f".//*[@id='{gid}']")
    kinds = [f"{{{NAMESPACE}}}{kind}" for kind in ("use", "path")]
    marks: list[ElementTree.Element] = []
    if group is not None:
        hidden = {inner for defs in group.iter(f"{{{NAMESPACE}}}defs") for inner in defs.iter()}
        marks = [element for element in group.iter() if element.tag in kinds and element not in hidden]
    if len(marks) != len(texts):
        raise ValueError(f"Expected {len(texts)} marks of {gid!r}, one for each text, got {len(marks)}. Draw them all.")
    for mark, text in zip(marks, texts, strict=True):
        mark.append(_title(text))


def _title(text: str) -> ElementTree.Element:
    element = ElementTree.Element(f"{{{NAMESPACE}}}title")
    element.text = text
    return element


def _own_names(text: str, name: str) -> str:
    """Let ids of one picture differ from those of all others on the page."""
    own, ids = f"p{zlib.crc32(name.encode()):x}", {*re.findall(r'\bid="([^"]+)"', text)}
    named = r'(id="|href="#|url\(#)([^")]+)'
    return re.sub(named, lambda one: f"{one[1]}{own}-{one[2]}" if one[2] in ids else one[0], text)
