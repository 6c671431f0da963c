import platform
import resource
import runpy
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from axformer_lightning.runs.memory import keep_freed_memory

FAULTS = """
import resource
import torch
from axformer_lightning.runs.memory import keep_freed_memory
assert keep_freed_memory({})
faults = []
for _ in range(9):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)  # 64 MiB
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""
PAGES = 64 * 2**20 // resource.getpagesize()


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_pages_that_were_freed_are_not_asked_for_again():
    ran = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert statistics.median(map(int, ran.stdout.split())) < PAGES / 10, ran.stdout


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_settings_of_the_users_own_are_left_as_they_are(name):
    assert not keep_freed_memory({name: "1"})


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory({})


@pytest.mark.slow
def test_the_example_times_steps_of_training(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    example = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "examples" / "kept_memory.py"))
    assert example["seconds_of_a_step"]("1x4", "given back") > 0
