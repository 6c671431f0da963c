"""The command `prediction`: how well the sum of its blocks' times predicts what a cut model takes."""

import argparse
import copy
import random
import time
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel

from axformer_lightning.anatomy import Anatomy, LayerPlan, anatomy_of
from axformer_lightning.benchmark.table import keep, percent, row, show_head
from axformer_lightning.costs import cost_of_layers, sizes_of
from axformer_lightning.costs.measured import uniform_batch
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_
from axformer_lightning.timing import measure_latency, medians_ms


def prediction(args: argparse.Namespace) -> dict[str, Any]:
    """Measure a latency table, then time random plans beside the dense model, and show both."""
    model = AutoModel.from_pretrained(args.model, dtype=args.dtype).to(args.device)
    anatomy, sizes, draw = anatomy_of(model), sizes_of(model), random.Random(args.seed)
    start = time.perf_counter()
    table = measure_latency(model, batch_size=args.batch_size, tokens=args.length, seconds=args.seconds)
    results: dict[str, Any] = {**vars(table.conditions), "measured_in_s": round(time.perf_counter() - start, 1)}
    if args.table:
        table.save(args.table)
    plans = [anatomy.dense_layers(), *(random_layers(anatomy, draw) for _ in range(args.plans))]
    with torch.inference_mode():
        batch = uniform_batch(model, args.batch_size, args.length)
        measured = medians_ms({layers: _cut(model, anatomy, layers) for layers in plans}, batch, seconds=args.seconds)
    show_head(args.console, results, (
        "plan", "multiply-adds, %", "predicted, ms", "measured, ms", "off, %",
        "predicted, % of dense", "measured, % of dense",
    ))  # fmt: skip
    results["plans"] = []
    dense = plans[0]
    for number, layers in enumerate(plans):
        predicted = table.predict_ms(layers)
        shares = {
            "macs": cost_of_layers(sizes, layers, args.length).macs / cost_of_layers(sizes, dense, args.length).macs,
            "predicted": predicted / table.predict_ms(dense), "measured": measured[layers] / measured[dense],
        }  # fmt: skip
        off = predicted / measured[layers] - 1
        results["plans"].append(
            {"predicted_ms": predicted, "measured_ms": measured[layers], "off": off, "shares": shares}
        )
        args.console.print(row(
            number or "dense", percent(shares["macs"]), f"{predicted:.2f}", f"{measured[layers]:.2f}", percent(off),
            percent(shares["predicted"]), percent(shares["measured"]),
        ))  # fmt: skip
    keep(args.out, results)
    return results


def random_layers(anatomy: Anatomy, draw: random.Random) -> tuple[LayerPlan, ...]:
    """Return a plan that leaves any number of heads, and of twelfths of the neurons, of each layer."""
    return tuple(_random_layer(anatomy.num_heads, anatomy.intermediate_size, draw) for _ in range(anatomy.num_layers))


def _random_layer(heads: int, neurons: int, draw: random.Random) -> LayerPlan:
    removed = tuple(sorted(draw.sample(range(heads), draw.randint(0, heads))))
    left = neurons * draw.randint(0, 12) // 12
    layer = LayerPlan(heads_removed=removed, neurons_removed=((left, neurons),) if left < neurons else ())
    layer = layer.without_attention() if len(removed) == heads else layer
    return layer if left else layer.without_feed_forward()


def _cut(model: PreTrainedModel, anatomy: Anatomy, layers: tuple[LayerPlan, ...]) -> PreTrainedModel:
    smaller = apply_plan_(copy.deepcopy(model), replace(Plan.dense(anatomy), layers=layers))
    smaller.eval()
    return smaller
