"""docs/lightning_features.md: every test that it names exists, so that no row goes without one."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/lightning_features.md").read_text(encoding="utf-8")
TESTS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))


def test_every_row_names_tests_that_exist():
    rows = [row for row in PAGE.splitlines() if row.startswith("| ") and not row.endswith("| test |")]
    assert len(rows) > 50
    for row in rows:
        last = row.rstrip("| ").rpartition(" | ")[2]
        named = re.findall(r"`(test_\w+)`", last)
        assert named or re.search(r"`callbacks/test_\w+\.py`", last), row
        assert all(f"def {name}(" in TESTS for name in named), row
