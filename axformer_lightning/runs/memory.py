"""What training frees is kept for the next batch instead of going back to the system."""

import ctypes
import os
import platform
from collections.abc import Mapping

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST_BLOCK = 2**30
LARGEST_SURPLUS = 2**31 - 1  # what an `int` holds
OWN_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory(outside: Mapping[str, str] = os.environ) -> bool:
    """Let this process keep up to 2 GiB that it has freed; return whether it does.

    The GNU C library asks the system for each block of more than 32 MiB, such as the activations of a feed-forward
    block for 16 x 384 tokens, and gives it back when it is freed. The system fills every page of it with zeros, again
    in each layer of each step: up to a quarter of the time of training on a CPU (docs/sweeps.md). Numbers do not change
    by it. Settings of malloc's in the environment are left as they are, and so are other C libraries.

    Args:
        outside: the environment of the process.

    Example:
        >>> keep_freed_memory({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})
        False

    Reference:
        mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    if platform.libc_ver()[0] != "glibc" or any(name in outside for name in OWN_SETTINGS):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK) and mallopt(M_TRIM_THRESHOLD, LARGEST_SURPLUS))
