"""The command `hard-attention`: what hard layers take beside soft ones."""

import argparse
from dataclasses import asdict
from typing import Any

import torch

from axformer_lightning import kernels
from axformer_lightning.anatomy import HardAttention
from axformer_lightning.benchmark.table import keep, provenance, row, show_head
from axformer_lightning.costs import uniform_batch
from axformer_lightning.runs.environment import device_name
from axformer_lightning.sweeps.hard_attention import time_hard_attention
from axformer_lightning.sweeps.prediction import load_encoder


def hard_attention(args: argparse.Namespace) -> dict[str, Any]:
    """Time a model with soft layers, and with hard ones by torch's operators and by the kernels, in turns."""
    model = load_encoder(args.model, "float32")
    uniform_batch(model, 1, max(length for _, length in args.shapes))  # refused now, not in the middle
    model.set_attn_implementation(args.attention)
    results: dict[str, Any] = {
        **provenance(args), "model": args.model, "device": device_name(torch.device("cpu")), "torch": torch.__version__,
        "kernel": kernels.available(), "k": args.k, "renormalize": args.renormalize, "rounds": args.rounds,
        "attention": args.attention, "training": args.training,
    }  # fmt: skip
    show_head(args.console, results, ("batch x length", "hard layers", "by", "ms", "ratio to soft", "quartiles"))
    results["times"] = []
    for shape in args.shapes:
        settings = HardAttention(args.k, args.renormalize)
        for found in time_hard_attention(
            model, shape, args.layers, settings, rounds=args.rounds, training=args.training
        ):
            results["times"].append(asdict(found))
            way = ("C++" if found.by_kernel else "torch") if found.hard_layers else args.attention
            args.console.print(row(
                f"{found.batch_size} x {found.length}", found.hard_layers, way, f"{found.ms:.1f}",
                f"{found.ratio:.3f}", f"{found.low:.3f} to {found.high:.3f}",
            ))  # fmt: skip
        keep(args.out, results)
    return results
