"""The site of the documentation: it builds strictly, loads nothing from elsewhere, and shows all that is public."""

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import axformer_lightning
from tests.test_imports import ORDER

pytest.importorskip("mkdocs", reason="needs the extra `docs`")
pytestmark = pytest.mark.xdist_group("site")  # built once
ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
CODE = re.compile(r"<(pre|code).*?</\1>", re.S)
LEFT = re.compile(r"^ *(?:[-*|]|\d+\.) .{,99}|(?:```|:(?:class|data|func|meth|mod):|&gt;&gt;&gt; ).{,99}", re.M)
ANCHOR = re.compile(r'id="(axformer_lightning\.[\w.]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site from another directory; dead links, dead anchors and pages without an entry are errors."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ROOT / ".mkdocs.yml", "-d", target / "site"]
    silent = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=target, env=silent, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return target / "site"


@pytest.fixture(scope="module")
def pages(site):
    return {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}


def test_every_page_is_there(pages):
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").glob("*.md")}
    assert {path.as_posix() for path in sources} - {"README.html"} < pages.keys()
    assert {"index.html", "reference/index.html", "evidence/demo/report.html"} < pages.keys()


def test_nothing_is_loaded_from_elsewhere(site, pages):
    loading = r"<(?:script|img|iframe|source)[^>]+src=\"?(?:https?:)?//|<link[^>]+href=\"?(?:https?:)?//"
    assert [name for name, text in pages.items() if re.search(loading, text)] == []
    styles = {path.name: path.read_text(encoding="utf-8") for path in site.rglob("*.css")}
    assert styles
    assert [name for name, text in styles.items() if re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", text)] == []


def test_no_markup_is_left_as_text(pages):
    """A list or table without a blank line above is one on GitHub, but not for Python-Markdown."""
    for name, text in pages.items():
        article = CODE.sub("", text[text.find("<article") : text.find("</article")])
        assert LEFT.findall(article) == [], name


def test_the_search_finds_what_is_public(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    titles = {re.sub(r"<.*?>", "", entry["title"]).split(" ")[0] for entry in index["docs"]}
    assert {*axformer_lightning.__all__} <= titles


@pytest.mark.parametrize("room", ["", *ORDER])
def test_the_reference_shows_every_public_function_and_class(room, pages):
    module = importlib.import_module(f"axformer_lightning.{room}".rstrip("."))
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if name[0] != "_" and getattr(value, "__module__", "") == module.__name__
    ]
    public = {
        name for name in names if inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name))
    }
    shown = {path.rpartition(".")[2] for path in ANCHOR.findall(pages[f"reference/{room or 'index'}.html"])}
    assert public
    assert public - shown == set()


def test_what_is_public_has_an_example_or_says_where_one_is():
    texts = {name: " ".join(getattr(axformer_lightning, name).__doc__.split()) for name in axformer_lightning.__all__}
    assert [name for name, text in texts.items() if ">>>" not in text and "an example is there" not in text] == []


def test_every_room_has_a_page():
    assert {path.stem for path in REFERENCE.glob("*.md")} == {"README", *ORDER}
