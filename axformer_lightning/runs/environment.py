"""What a run ran on, and by which command."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from axformer_lightning.basics import write_json
from axformer_lightning.costs import hardware_name

FILE = "environment.json"
PACKAGES = ("axformer-lightning", "torch", "lightning", "transformers", "torchmetrics", "datasets", "hydra-core")


def environment() -> dict[str, Any]:
    """Return what the results of this process may depend on beside its configuration, in plain types.

    Example:
        >>> {"command", "commit", "python", "packages", "processor", "threads"} <= {*environment()}
        True
    """
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit_of_code(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "system": platform.platform(),
        "processor": hardware_name(torch.device("cpu")),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def keep_environment(directory: Path, seconds: Mapping[str, float]) -> None:
    """Write `environment.json`.

    Args:
        directory: of the run.
        seconds: how long each stage took in the process that finished it.
    """
    write_json(directory / FILE, {**environment(), "seconds": dict(seconds)})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit_of_code() -> str | None:
    """Return the commit of this checkout, with a plus where files differ from it; None outside one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    asked = (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    options: Any = {"capture_output": True, "text": True, "check": True, "timeout": 5}
    try:
        commit, changed = (subprocess.run(["git", "-C", root, *words], **options).stdout for words in asked)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit.strip()}{'+' if changed.strip() else ''}"


def device_name(device: torch.device) -> str:
    """Return the name of a device, as a table of results needs it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
