"""The command `prediction`: how well the times of its blocks predict what a cut model takes."""

import argparse
import random
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from axformer_lightning.anatomy import anatomy_of
from axformer_lightning.benchmark.table import keep, percent, provenance, row, show_head
from axformer_lightning.costs import LatencyTable, cost_of_layers, sizes_of
from axformer_lightning.sweeps.engines import check_engines
from axformer_lightning.sweeps.prediction import (
    Layers,
    Predicted,
    compare_line,
    compare_predictions,
    load_encoder,
    random_layers,
)
from axformer_lightning.timing import measure_latency

Found = tuple[LatencyTable, list[Predicted], dict[str, Any]]


def prediction(args: argparse.Namespace) -> dict[str, Any]:
    """Measure a latency table, then time random plans beside the dense model, and show both."""
    check_engines([args.engine] if args.engine else [])
    model = load_encoder(args.model, args.dtype).to(args.device)
    anatomy, sizes, draw = anatomy_of(model), sizes_of(model), random.Random(args.seed)
    plans = [anatomy.dense_layers(), *(random_layers(anatomy, draw) for _ in range(args.plans))]
    macs = [cost_of_layers(sizes, layers, args.length).macs for layers in plans]
    table, times, spent = (_by_line if args.engine else _by_blocks)(args, model, plans, draw)
    results: dict[str, Any] = {**asdict(table.conditions), **provenance(args), **spent}
    if args.table:
        table.save(args.table)
    show_head(args.console, results, (
        "plan", "multiply-adds, %", "predicted, ms", "measured, ms", "off, %",
        "predicted, % of dense", "measured, % of dense",
    ))  # fmt: skip
    dense, *_ = times
    results["plans"] = []
    for number, (own, ran) in enumerate(zip(macs, times, strict=True)):
        shares = {
            "macs": own / macs[0], "predicted": ran.predicted_ms / dense.predicted_ms,
            "measured": ran.measured_ms / dense.measured_ms,
        }  # fmt: skip
        results["plans"].append({**asdict(ran), "shares": shares})
        args.console.print(row(
            number or "dense", percent(shares["macs"]), f"{ran.predicted_ms:.2f}", f"{ran.measured_ms:.2f}",
            percent(ran.predicted_ms / ran.measured_ms - 1), percent(shares["predicted"]), percent(shares["measured"]),
        ))  # fmt: skip
    off = [abs(ran.predicted_ms / ran.measured_ms - 1) for ran in times]
    results["mean_off"], results["worst_off"] = sum(off) / len(off), max(off)
    args.console.print(f"\noff by {percent(results['mean_off'])} % on average, by {percent(max(off))} % at worst")
    keep(args.out, results)
    return results


def _by_blocks(args: argparse.Namespace, model: Any, plans: list[Layers], draw: random.Random) -> Found:
    """Return the table of single blocks, and the plans beside it."""
    start = time.perf_counter()
    table = measure_latency(model, batch_size=args.batch_size, tokens=args.length, seconds=args.seconds)
    spent = {"measured_in_s": round(time.perf_counter() - start, 1)}
    return table, compare_predictions(model, table, plans, args.seconds), spent


def _by_line(args: argparse.Namespace, model: Any, plans: list[Layers], draw: random.Random) -> Found:
    """Return the line that fits whole cut models in an engine, and other plans beside it."""
    fitted = [random_layers(anatomy_of(model), draw) for _ in range(args.fitted)]
    shape = {"batch_size": args.batch_size, "tokens": args.length}
    with tempfile.TemporaryDirectory() as directory:
        table, times = compare_line(model, args.engine, fitted, plans, Path(directory), **shape, seconds=args.seconds)
    return table, times, {"fitted": args.fitted}
