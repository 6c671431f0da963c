"""The list of slow tests."""

from importlib import import_module
from operator import attrgetter
from pathlib import Path

from tests import measuring

ROOT = Path(__file__).parent.parent


def test_what_the_list_names_is_there():
    assert not [name for name in measuring.read() if not is_there(*name.split("::"))], "renamed or gone: measure anew"


def is_there(file, test):
    if file.startswith("tests/"):
        return f"\ndef {test}(" in (ROOT / file).read_text()
    module = file.removesuffix(".py").replace("/", ".")
    return attrgetter(test.removeprefix(f"{module}."))(import_module(module)).__doc__


def test_measured_tests_join_or_leave_the_list_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "LIST", tmp_path / "slow.txt")
    measuring.LIST.write_text("a::elsewhere\nb::is_fast_now\n")
    monkeypatch.setattr(measuring, "seconds", {"b::is_fast_now": [0.1], "c::slow": [0.3, 0.9], "d::fast": [0.7, 0.01]})
    measuring.pytest_sessionfinish()
    assert measuring.LIST.read_text() == "a::elsewhere\nc::slow\n"
