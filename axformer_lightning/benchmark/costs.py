"""The commands `search` and `growth`: the cost of a search."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from datasets import Dataset

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.benchmark.table import circumstances, keep, mebibytes, row, show_head
from axformer_lightning.criteria import Rule
from axformer_lightning.search import Pruning, SearchSettings
from axformer_lightning.sweeps import batches_of, encoded, first_rows, labelled_rows, rows_in
from axformer_lightning.sweeps.search_cost import Cost, draw_growth, growth_cost, search_costs
from axformer_lightning.tasks import TASKS, load_model, texts_of

RANDOM_MODEL = {"model_type": "bert", "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
SPENT = ("layer-tokens", "of exhaustive", "seconds", "of exhaustive", "kept MiB", "GPU MiB")
STEPS = ("step", *SPENT, "candidates", "accepted", "decisions that differ")
GROWTH = ("grows", "to", "candidates", "layer-tokens", "seconds", "kept MiB", "peak RSS MiB", "GPU MiB")
GROWTH_NOTE = "One candidate per layer (hard attention), evaluated to the end: not a whole search."


def search(args: argparse.Namespace) -> dict[str, Any]:
    """Run the same search exhaustively and with one feature more at a time, and show the costs."""
    rows = labelled_rows(args.task, args.data_dir).train
    model, tokenizer = load_model(TASKS[args.task], pretrained=args.model, max_length=args.max_length)
    chosen = rows.select(
        rows_in(args.rows, len(rows)) if args.rows else first_rows(args.samples, rows, at_random=args.random)
    )
    samples = encoded(chosen, tokenizer, padding="max_length", max_length=args.max_length)
    settings = SearchSettings(HardAttention(), Pruning(), Rule(majority=args.majority))
    results = {
        **circumstances(args),
        "cache_memory": args.cache_memory,
        "samples": len(chosen),
        "majority": args.majority,
        "steps": [],
    }
    show_head(args.console, results, STEPS)
    costs = search_costs(
        model.to(args.device), samples, settings, cache_memory=args.cache_memory, batch_tokens=args.batch_tokens
    )
    for cost in costs:
        results["steps"].append(asdict(cost))
        first = results["steps"][0]
        work = f"{cost.layer_tokens:,.0f}", f"{cost.layer_tokens / first['layer_tokens']:.3f}"
        time = f"{cost.seconds:.1f}", f"{cost.seconds / first['seconds']:.3f}"
        memory = mebibytes(cost.kept_bytes), mebibytes(cost.device_bytes)
        args.console.print(row(cost.step, *work, *time, *memory, cost.candidates, cost.accepted, cost.differing))
        keep(args.out, results)
    return results


def growth(args: argparse.Namespace) -> dict[str, Any]:
    """Show how the cost of a search grows with the search set and with the number of layers."""
    rows = labelled_rows(args.task, args.data_dir).train
    if not args.sizes and not args.layers:
        raise ValueError("Expected `--sizes` or `--layers` or both, got neither. Pass --sizes 500,2000,8000.")
    if args.sizes and not args.model:
        raise ValueError(
            "Expected `--model` with `--sizes`, got none. Pass a directory or a hub id, or --layers alone."
        )
    for size in (*args.sizes, args.samples) if args.layers else args.sizes:
        first_rows(size, rows, at_random=args.random)  # refused now, not after the smaller ones
    results = {
        **circumstances(args),
        "cache_memory": args.cache_memory,
        "note": GROWTH_NOTE,
        "samples": [],
        "layers": [],
    }
    curves: dict[str, list[tuple[int, Cost]]] = {}
    show_head(args.console, results, GROWTH)
    for grows, size, cost in _grown(args, rows):
        curves.setdefault(grows, []).append((size, cost))
        results[grows].append({grows: size, **asdict(cost)})
        spent = f"{cost.layer_tokens:,.0f}", f"{cost.seconds:.1f}"
        memory = map(mebibytes, (cost.kept_bytes, cost.peak_rss, cost.device_bytes))
        args.console.print(row(grows, f"{size:,}", cost.candidates, *spent, *memory))
        keep(args.out, results)
    args.console.print(f"\n{GROWTH_NOTE}")
    if args.plot:
        draw_growth(curves, args.plot)
    return results


def _grown(args: argparse.Namespace, rows: Dataset) -> Iterator[tuple[str, int, Cost]]:
    task = TASKS[args.task]
    if args.sizes:
        model, tokenizer = load_model(task, pretrained=args.model, max_length=args.max_length)
        for size in sorted(args.sizes):
            chosen = rows.select(first_rows(size, rows, at_random=args.random))
            yield "samples", size, _growth_cost(args, model, tokenizer, chosen)
    chosen = rows.select(first_rows(args.samples, rows, at_random=args.random)) if args.layers else rows
    for num_layers in sorted(args.layers):
        torch.manual_seed(0)
        config = {**RANDOM_MODEL, "num_hidden_layers": num_layers}
        model, tokenizer = load_model(task, config=config, texts=texts_of(chosen), max_length=args.max_length)
        yield "layers", num_layers, _growth_cost(args, model, tokenizer, chosen)


def _growth_cost(args: argparse.Namespace, model: Any, tokenizer: Any, rows: Dataset) -> Cost:
    batches = batches_of(rows, tokenizer, args.max_length, args.batch_tokens)
    return growth_cost(model.to(args.device), batches, cache_memory=args.cache_memory)
