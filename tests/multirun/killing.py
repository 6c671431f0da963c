"""Sweeps that are killed at random moments: `python -m tests.multirun.killing DIR KILLS SEED` does so, and compares.

SIGKILL or SIGTERM, of the driver or of a job; then the same command again, until all jobs are done, and a new sweep
until there were as many kills as asked for. What comes out has to be what an undisturbed sweep gives.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.multirun.sweeping import GRID, jobs, outcomes, processes_of, start, sweep

SIGNALS = signal.SIGKILL, signal.SIGTERM
VICTIMS = "driver", "job"
MOST = 45.0  # seconds between two kills


def torment(directory, kills, rng, seconds, *overrides):
    """Run sweeps, and kill until it was often enough; return what was killed how, and the sweeps' directories.

    Args:
        directory: of the sweeps.
        kills: how many there are.
        rng: draws moments, victims and signals.
        seconds: the longest time between two kills.
        overrides: of the sweep.
    """
    killed, round_, victim = [], 0, rng.choice(VICTIMS)
    while len(killed) < kills:
        place = directory / str(round_)
        with start(place, *overrides) as driver:
            while len(killed) < kills and not _ended(driver, rng.uniform(0, seconds)):
                found = [driver.pid] if victim == "driver" else processes_of(place)
                if not found:  # no job yet: another moment, but the same victim, else it is a driver most times
                    continue
                signum = rng.choice(SIGNALS)
                try:
                    os.kill(rng.choice(found), signum)
                except ProcessLookupError:  # it ended meanwhile
                    continue
                killed.append((victim, signum.name))
                hit, victim = victim, rng.choice(VICTIMS)
                if hit == "driver":
                    break
            driver.communicate()
        round_ += driver.returncode == 0
    return killed, [directory / str(index) for index in range(round_ + 1) if (directory / str(index)).exists()]


def _ended(driver, seconds):
    try:
        driver.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def compare(directory, kills, seed):
    """Kill sweeps, repeat their command to the end, and return what was killed; raise if anything differs."""
    overrides = [*GRID, "sweep.jobs=2"]
    began = time.monotonic()
    status, said = sweep(directory / "whole", *overrides)
    assert status == 0, said
    seconds = min(MOST, (time.monotonic() - began) / 2)
    killed, places = torment(directory, kills, random.Random(seed), seconds, *overrides)
    whole = outcomes(directory / "whole")
    assert len(whole) == 4
    for place in places:
        status, said = sweep(place, *overrides)
        assert status == 0, said
        assert outcomes(place) == whole, place
        assert not list(place.rglob("*.tmp"))
        assert all((job / "report.html").exists() for job in jobs(place))
    return Counter(killed), len(places)


if __name__ == "__main__":
    killed, sweeps = compare(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(f"{sum(killed.values())} kills in {sweeps} sweeps, all as undisturbed: {dict(killed)}\n")
