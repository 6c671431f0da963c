"""The command `latency`: the time that saved models take."""

import argparse
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from axformer_lightning.artifacts import load_pretrained
from axformer_lightning.benchmark.table import keep, mebibytes, percent, provenance, row, show_head
from axformer_lightning.runs.environment import device_name
from axformer_lightning.sweeps.engines import ENGINES, check_engines
from axformer_lightning.sweeps.latencies import Latencies, Latency, compare_latencies


def latency(args: argparse.Namespace) -> dict[str, Any]:
    """Time saved models in turns, and show how much faster each is than the first; all under the same settings."""
    engines = args.engines or ["PyTorch float"]
    check_engines(engines)
    of_torch = [name for name in engines if ENGINES[name].format is None]
    if (args.first_token_only or args.device != "cpu") and of_torch != engines:
        raise ValueError(
            f"Expected engines out of {[name for name, row in ENGINES.items() if row.format is None]} with"
            f" `--first-token-only` or a GPU, got {engines}. Leave one of the two out."
        )
    if twice := [path for path, count in Counter(args.models).items() if count > 1]:
        raise ValueError(f"Expected each directory once, got {twice[0]!r} twice. Copy it to compare it with itself.")
    models = {
        path: load_pretrained(path, first_token_only=args.first_token_only, dtype="float32").to(args.device)
        for path in args.models
    }
    results: dict[str, Any] = {
        "device": device_name(torch.device(args.device)), "torch": torch.__version__, "length": args.length,
        "threads": torch.get_num_threads(), "first_token_only": args.first_token_only, **provenance(args),
    }  # fmt: skip
    batches = [f"batch{size}" for size in args.batch_sizes]
    units = ("ms", "quartiles", "times faster", "of ideal, %")
    timed = [f"{batch}, {unit}" for batch in batches for unit in units]
    show_head(args.console, results, ("model", "engine", "encoder parameters", "multiply-adds", *timed, "memory, MiB"))
    with tempfile.TemporaryDirectory() as directory:
        found = compare_latencies(
            models, Path(directory), engines=engines, batch_sizes=args.batch_sizes, length=args.length,
            rounds=args.rounds, seconds=args.seconds,
        )  # fmt: skip
    results["models"] = [
        {**asdict(one), "times_faster": one.times_faster(found.rows[0]), "of_ideal": one.realised(_dense(found, one))}
        for one in found.rows
    ]
    results["twice"] = found.twice
    for one in results["models"]:
        args.console.print(row(*_cells(one, batches)))
    for engine, batch, factor in found.idle():
        size = batch.removeprefix("batch")
        args.console.print(
            f"\n{engine}, {size} x {args.length} tokens: twice the samples take only {factor:.2f} times as long. The"
            " device has room for more, so a smaller model gains less here than its multiply-adds promise."
        )
    keep(args.out, results)
    return results


def _dense(found: Latencies, one: Latency) -> Latency:
    return next(other for other in found.rows if other.engine == one.engine)


def _cells(one: dict[str, Any], batches: list[str]) -> tuple[str, ...]:
    timed = [
        cell
        for batch in batches
        for low, high in [one["spread_ms"][batch]]
        for cell in (
            f"{one['latency_ms'][batch]:.2f}", f"{low:.2f} to {high:.2f}", f"{one['times_faster'][batch]:.3f}",
            percent(one["of_ideal"][batch]),
        )
    ]  # fmt: skip
    counts = f"{one['encoder_parameters']:,}", f"{one['macs_per_sample']:,}"
    return one["model"], one["engine"], *counts, *timed, mebibytes(one["memory_bytes"])
