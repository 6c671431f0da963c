"""The page on tests names code and tests that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("## Faults that the suite notices")[2].splitlines()
ROWS = [row.replace(r"\|", "|") for row in TABLE if row.startswith("| ") and "`tests/" in row]
FAULT = re.compile(r"\| `(?P<file>[^`]+)`: `(?P<code>[^`]+)` .*\| `(?P<test>tests/[^`]+)`")
FAULTS = [found.groupdict() for row in ROWS if (found := FAULT.search(row))]


def plain(text):
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault["code"])
def test_a_fault_is_one_of_the_code_as_it_is(fault):
    path = ROOT / "axformer_lightning" / fault["file"]
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.suffix in (".py", ".cpp", ".h")]
    assert any(plain(fault["code"]) in plain(file.read_text(encoding="utf-8")) for file in files)
    test, _, name = fault["test"].partition("::")
    assert not name or f"def {name.partition('[')[0]}(" in (ROOT / test).read_text(encoding="utf-8")


def test_every_row_of_the_table_is_read():
    assert len(FAULTS) == len(ROWS) > 60
