"""The command `prediction`: how well the times of its blocks predict what a cut model takes."""

import argparse
import random
import time
from dataclasses import asdict
from typing import Any

from axformer_lightning.anatomy import anatomy_of
from axformer_lightning.benchmark.table import keep, percent, row, show_head
from axformer_lightning.costs import cost_of_layers, sizes_of
from axformer_lightning.sweeps.prediction import compare_predictions, load_encoder, random_layers
from axformer_lightning.timing import measure_latency


def prediction(args: argparse.Namespace) -> dict[str, Any]:
    """Measure a latency table, then time random plans beside the dense model, and show both."""
    model = load_encoder(args.model, args.dtype).to(args.device)
    anatomy, sizes, draw = anatomy_of(model), sizes_of(model), random.Random(args.seed)
    start = time.perf_counter()
    table = measure_latency(model, batch_size=args.batch_size, tokens=args.length, seconds=args.seconds)
    results: dict[str, Any] = {**asdict(table.conditions), "measured_in_s": round(time.perf_counter() - start, 1)}
    if args.table:
        table.save(args.table)
    show_head(args.console, results, (
        "plan", "multiply-adds, %", "predicted, ms", "measured, ms", "off, %",
        "predicted, % of dense", "measured, % of dense",
    ))  # fmt: skip
    plans = [anatomy.dense_layers(), *(random_layers(anatomy, draw) for _ in range(args.plans))]
    macs = [cost_of_layers(sizes, layers, args.length).macs for layers in plans]
    dense, *_ = times = compare_predictions(model, table, plans, args.seconds)
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
    keep(args.out, results)
    return results
