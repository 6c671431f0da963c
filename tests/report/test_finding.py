"""The directories of runs, however they are linked to."""

import pytest

from axformer_lightning.report.finding import runs_in


@pytest.fixture
def runs(tmp_path):
    for name in ("2", "10", "more/1"):
        (tmp_path / "sweep" / name).mkdir(parents=True)
        (tmp_path / "sweep" / name / "state.json").touch()
    return tmp_path / "sweep"


def found(directory):
    return [path.relative_to(directory).as_posix() for path in runs_in(directory)]


def test_runs_are_found_at_any_depth_in_the_order_of_their_numbers(runs):
    assert found(runs) == ["2", "10", "more/1"]
    assert found(runs / "2") == ["."]


@pytest.mark.parametrize("links", [{"again": "."}, {"a": ".", "b": "."}, {"more/up": "..", "self": "self"}])
def test_links_that_lead_back_end(runs, links):
    for name, target in links.items():
        (runs / name).symlink_to(target)
    assert found(runs) == ["2", "10", "more/1"]


@pytest.mark.parametrize("name", ["0", "last"])
def test_a_run_that_is_linked_to_counts_once_by_its_own_name(runs, name):
    (runs / name).symlink_to("10")
    (runs / "more" / "0").symlink_to("../2")
    assert found(runs) == ["2", "10", "more/1"]


def test_runs_elsewhere_are_found_through_links_once(runs, tmp_path):
    (tmp_path / "elsewhere" / "7").mkdir(parents=True)
    (tmp_path / "elsewhere" / "7" / "results.json").touch()
    (runs / "1").symlink_to(tmp_path / "elsewhere")
    (runs / "3").symlink_to(tmp_path / "elsewhere" / "7")
    assert found(runs) == ["1/7", "2", "10", "more/1"]
