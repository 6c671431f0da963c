"""Which cases there are of a test (docs/testing.md); models and fixtures are in models.py."""

import gc
import os
import shutil

import pytest

from tests import measuring

gc.disable()  # until all is collected
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads only wait for each other
MEMORY = "/dev/shm"  # thousands of small files are quicker to write and to remove there than on a disk
# One family for each way in which layers are laid out: what could depend on that is tested in all of these.
LAYOUTS = ("bert", "distilbert", "mpnet", "deberta-v2", "modernbert", "albert")
# Families whose layers have BERT's names: for them anatomy/test_families.py, which takes every row, is enough.
SAME_LAYOUT = ("roberta", "xlm-roberta", "camembert", "electra")
IMPLEMENTATIONS = ("sdpa", "eager")  # the first that a family offers stands for both where it makes no difference
EAGER_ONLY = ("mpnet", "deberta-v2")
SLOW = measuring.read()
SLOW_FIXTURES = {"subprocesses", "workers", "served", "site"}  # two ranks, a service, the site of the docs


def pytest_configure(config):
    """Import torch and transformers where tests run, but not in the process that hands them out to others."""
    if has_room(MEMORY):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)
    if hasattr(config, "workerinput") or config.getoption("dist", "no") == "no":
        config.pluginmanager.import_plugin("tests.models")


def pytest_addoption(parser):
    parser.addoption("--all-families", action="store_true", help="multiply every test over all families it could take")


@pytest.hookimpl(tryfirst=True)  # before pytest looks at marks
def pytest_collection_modifyitems(config, items):
    """Drop what transformers does not offer, and what says nothing new, and find what is slow (docs/testing.md)."""
    everything = config.getoption("--all-families")
    asked = {name_of(item) for item in items}
    items[:] = [item for item in items if is_offered(item) and (everything or is_needed(item))]
    if lost := asked - {name_of(item) for item in items}:
        raise pytest.UsageError(f"No case is left of {sorted(lost)}; --all-families takes more")
    seen = set()
    for item in items:
        if is_slow(item, name_of(item) not in seen):
            item.add_marker("slow")
        seen.add(name_of(item))


def pytest_collection_finish():
    """Let no garbage collection walk through all that is imported and collected, neither meanwhile nor later."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the pictures of a page undrawn, which take more time than a tiny run."""
    monkeypatch.setattr("axformer_lightning.report.page._draw", lambda folder, images: {one.name: "" for one in images})


def has_room(folder):
    """Tell whether the files of the suite fit, five times over, and whether what is compiled there may run."""
    if not os.access(folder, os.W_OK) or os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return False
    return shutil.disk_usage(folder).free > 2**30


def name_of(item):
    return item.nodeid.partition("[")[0]


def is_offered(item):
    """Tell whether the family of a test has its implementation: sdpa is missing outside the attention interface."""
    family, implementation = chosen(item)
    return implementation in (None, *implementations_of(family))


def is_needed(item):
    """Tell whether a combination is one that the test's markers leave."""
    family, implementation = chosen(item)
    alone = item.get_closest_marker("one_family")
    if family in SAME_LAYOUT or (alone and family not in (None, "bert")):
        return False
    once = alone or item.get_closest_marker("one_implementation")
    return not once or implementation in (None, implementations_of(family)[0])


def is_slow(item, first):
    listed = name_of(item) in SLOW and not item.get_closest_marker("always")
    costly = listed or item.get_closest_marker("exhaustive") or SLOW_FIXTURES & set(item.fixturenames)
    again = chosen(item)[0] not in (None, "bert") and not item.get_closest_marker("every_family")
    return costly or again or (item.get_closest_marker("slow_but_first") and not first)


def chosen(item):
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params.get("family"), params.get("implementation")


def implementations_of(family):
    return ("eager",) if family in EAGER_ONLY else IMPLEMENTATIONS
