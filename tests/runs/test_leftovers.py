"""What runs that were killed have left."""

import pytest

from axformer_lightning.runs import leftovers
from axformer_lightning.runs.leftovers import finish_page


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """The directory of a finished run that was killed while it drew its page, which is written without pictures."""
    monkeypatch.setattr(leftovers, "try_report", lambda directory: (directory / "report.html").write_text("new"))
    for name in (".resume/run.json", ".resume/lock", "report/plan.png", "report/gains.svg.abcd_123.tmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_the_page_of_a_run_that_was_killed_while_it_drew_it_is_written(drawn):
    finish_page(drawn)
    assert (drawn / "report.html").read_text() == "new"
    assert [path.name for path in (drawn / "report").iterdir()] == ["plan.png"]


def test_a_page_that_is_there_stays_as_it_is(drawn):
    (drawn / "report.html").write_text("old")
    finish_page(drawn)
    assert (drawn / "report.html").read_text() == "old"


def test_copies_of_records_have_no_page(drawn):
    (drawn / ".resume" / "lock").unlink()
    finish_page(drawn)
    assert not (drawn / "report.html").exists()
