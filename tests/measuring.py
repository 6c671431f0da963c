"""What each test takes, and which are slow: `python -m pytest -n 0 -m "not exhaustive" -p tests.measuring`.

It writes `tests/slow.txt` anew, for the tests that it has run; names of others stay as they are. Times are those of the
processor, of this process and of those that it started, so that other work on the machine does not count.
"""

import os
from collections import defaultdict
from pathlib import Path

import pytest

LIST = Path(__file__).parent / "slow.txt"
SLOW = 0.4  # seconds, in the mean over the cases of a test
seconds = defaultdict(list)


def read():
    """Return the tests that are slow, as they are called without their cases."""
    return set(LIST.read_text().splitlines())


def now():
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    begun = now()
    try:
        return (yield)
    finally:
        seconds[item.nodeid.partition("[")[0]].append(now() - begun)


def pytest_sessionfinish():
    slow = {name for name, each in seconds.items() if sum(each) >= SLOW * len(each)}
    LIST.write_text("".join(f"{name}\n" for name in sorted(read() - seconds.keys() | slow)))
