"""The command `latency`: the time that saved models take."""

import argparse
from typing import Any

import torch

from axformer_lightning.artifacts import load_pretrained
from axformer_lightning.benchmark.table import keep, row, show_head
from axformer_lightning.costs import count_encoder_parameters, latencies_ms, macs_per_sample
from axformer_lightning.runs.environment import device_name


def latency(args: argparse.Namespace) -> dict[str, Any]:
    """Time saved models in turns, and show how much faster each is than the first; all under the same settings."""
    models = {
        path: load_pretrained(path, first_token_only=args.first_token_only, dtype="float32").to(args.device)
        for path in args.models
    }
    results: dict[str, Any] = {
        "device": device_name(torch.device(args.device)),
        "torch": torch.__version__,
        "length": args.length,
        "first_token_only": args.first_token_only,
    }
    batches = [f"batch{size}" for size in args.batch_sizes]
    timed = [f"{batch}, {unit}" for unit in ("ms", "times faster") for batch in batches]
    show_head(args.console, results, ("model", "encoder parameters", "multiply-adds", *timed))
    milliseconds = latencies_ms(models, length=args.length, batch_sizes=args.batch_sizes)
    results["models"] = []
    for path, model in models.items():
        measured = milliseconds[path]
        faster = {batch: milliseconds[args.models[0]][batch] / measured[batch] for batch in batches}
        parameters, macs = count_encoder_parameters(model), macs_per_sample(model, args.length)
        costs = {"model": path, "encoder_parameters": parameters, "macs_per_sample": macs}
        results["models"].append({**costs, "latency_ms": measured, "times_faster": faster})
        times = *(f"{measured[batch]:.2f}" for batch in batches), *(f"{faster[batch]:.3f}" for batch in batches)
        args.console.print(row(path, f"{parameters:,}", f"{macs:,}", *times))
    keep(args.out, results)
    return results
