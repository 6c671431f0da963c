"""Shared by the commands: the conditions of a measurement, the table on the console, and the file."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from axformer_lightning.basics import write_atomically
from axformer_lightning.costs import hardware_name
from axformer_lightning.evidence import Mean
from axformer_lightning.runs.environment import commit_of_code, device_name

MEBIBYTE = 2**20


def circumstances(args: argparse.Namespace) -> dict[str, Any]:
    """Return the conditions of a measurement."""
    return {
        "task": args.task,
        "model": args.model,
        "device": device_name(torch.device(args.device)),
        "torch": torch.__version__,
        "max_length": args.max_length,
        "batch_tokens": args.batch_tokens,
    }


def provenance(args: argparse.Namespace) -> dict[str, Any]:
    """Return the command, the commit of this code (`+`: with changes; None outside a checkout) and the processor."""
    return {"command": args.command, "commit": commit_of_code(), "processor": hardware_name(torch.device("cpu"))}


def show_head(console: Console, results: dict[str, Any], columns: Sequence[str]) -> None:
    """Show the conditions, and the head of a table."""
    console.print(", ".join(f"{name} {value}" for name, value in results.items() if not isinstance(value, list)))
    console.print(f"\n{row(*columns)}\n{row(*['---'] * len(columns))}")


def row(*cells: object) -> str:
    """Return one row of a table in Markdown."""
    return f"| {' | '.join(map(str, cells))} |"


def gained(mean: Mean | None) -> str:
    """Return a mean of differences with its deviation."""
    return "-" if mean is None else f"{mean:+z.2f}"


def percent(share: float | None) -> str:
    """Return a share in percent."""
    return "-" if share is None else f"{100 * share:.2f}"


def mebibytes(num_bytes: int | None) -> str:
    """Return bytes in MiB."""
    return "-" if num_bytes is None else f"{num_bytes / MEBIBYTE:,.1f}"


def keep(path: Path | None, results: dict[str, Any]) -> None:
    """Write the results so far, if there is a file for them."""
    if path:
        write_atomically(path, json.dumps(results, indent=2) + "\n")
