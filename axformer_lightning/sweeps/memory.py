"""The memory of this process, as the kernel counts it (Linux)."""

import re
from contextlib import suppress
from pathlib import Path

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def forget_peak() -> bool:
    """Let the kernel count the peak of this process's memory from now on, and tell whether it does."""
    with suppress(OSError):
        CLEAR_REFS.write_text("5")
        return True
    return False


def resident_bytes(*, peak: bool = False) -> int | None:
    """Return the bytes that this process has in memory, or had at most; None where that is not known.

    Args:
        peak: the most since :func:`forget_peak`, instead of now.
    """
    with suppress(OSError):
        found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", STATUS.read_text())
        return int(found[1]) * 1024 if found else None
    return None
