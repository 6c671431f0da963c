"""The commands `budget` and `budgets-summary`: a comparison of ways to a given size."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from axformer_lightning.benchmark.rules import mark_of, run_in, split_of
from axformer_lightning.benchmark.table import circumstances, gained, keep, percent, provenance, row, show_head
from axformer_lightning.budgets import Effort
from axformer_lightning.runs import train_again
from axformer_lightning.sweeps import METHODS, BudgetResult, batches_of, compare_budgets, labelled_rows
from axformer_lightning.sweeps.budget_gains import draw_size_gains, size_gains
from axformer_lightning.sweeps.budgets import DENSE, checked_ratios
from axformer_lightning.sweeps.importance import check_installed
from axformer_lightning.tasks import TASKS, at_most, load_model

COLUMNS = ("method", "asked", "smaller", "search loss", "metric", "dev loss", "retrained: metric", "loss", "CPU s")
CONDITIONS = ("task", "metric", "seed", "samples", "command", "commit", "processor", "device", "torch")
MEASURES = {
    "metric": "metric, points",
    "retrained": "retrained, points",
    "loss": "dev loss, %",
    "searched": "search loss, %",
}
GAIN_COLUMNS = ("task", "method", "asked", "smaller", "runs", *MEASURES.values(), "CPU s")


def budget(args: argparse.Namespace) -> dict[str, Any]:
    """Make one dense model smaller by each method, and show the results on the dev set."""
    if unknown := set(args.methods) - set(METHODS):
        raise ValueError(f"Expected `--methods` out of {list(METHODS)}, got {sorted(unknown)}.")
    if {"magnitude", "taylor"} & set(args.methods):
        check_installed()  # refused now, not in the middle
    rows, task = labelled_rows(args.task, args.data_dir), TASKS[args.task]
    metric = args.metric or next(iter(task.metrics()))
    task.metric(metric)
    train, held_out = split_of(args, rows)
    held_out = at_most(held_out, args.search_samples, args.seed, "--search-samples")
    train = at_most(train, args.train_samples, args.seed, "--train-samples")
    model, tokenizer = load_model(task, pretrained=args.model, max_length=args.max_length)
    ratios = checked_ratios(model, args.ratios)
    retrain = partial(
        train_again, task=task, train=train, tokenizer=tokenizer, epochs=args.epochs,
        learning_rate=args.learning_rate, max_length=args.max_length, seed=args.seed,
    )  # fmt: skip
    results: dict[str, Any] = {
        **circumstances(args), **provenance(args), "seed": args.seed, "metric": metric, "samples": len(held_out),
        "rows": mark_of(train, held_out, rows.dev[""]), "epochs": args.epochs, "train_samples": len(train),
        "learning_rate": args.learning_rate, "tries": args.tries, "table_samples": args.table_samples,
        "bf16": args.bf16, "ratios": ratios, "results": [],
    }  # fmt: skip
    known = _known(args, results)
    search, dev = (batches_of(part, tokenizer, args.max_length, args.batch_tokens) for part in (held_out, rows.dev[""]))
    show_head(args.console, results, COLUMNS)
    for result in compare_budgets(
        model.to(args.device),
        task,
        search,
        dev,
        ratios=ratios,
        methods={name: METHODS[name] for name in args.methods},
        effort=Effort(args.table_samples, args.tries, args.bf16),
        retrain=retrain if args.epochs else None,
        known=known,
    ):
        results["results"].append(asdict(result))
        args.console.print(row(*_cells(result, metric)))
        done = {entries["method"] for entries in results["results"]}
        later = [asdict(one) for one in known if one.method not in done]
        keep(args.out, {**results, "results": [*results["results"], *later]})
        if args.plot and result.method != DENSE:
            draw_size_gains(size_gains([results]), args.plot)
    return results


def budgets_summary(args: argparse.Namespace) -> dict[str, Any]:
    """Show differences from the dense models, from the files that `budget` has written."""
    runs = [run_in(path, "budget", "results") for path in args.files]
    gains = size_gains(runs)
    for run in runs:
        named = (f"`{run['command']}`", f"commit {run['commit']}", run["processor"], run["device"])
        args.console.print(f"- {', '.join(named)}, torch {run['torch']}")
    args.console.print()
    args.console.print(f"{row(*GAIN_COLUMNS)}\n{row(*['---'] * len(GAIN_COLUMNS))}")
    for gain in gains:
        spreads = (gained(gain.spreads[name]) for name in MEASURES)
        head = gain.task, gain.method, f"{gain.ratio:g}", f"{gain.reached:.2f}", gain.runs
        args.console.print(row(*head, *spreads, f"{gain.cpu_seconds:.0f}"))
    conditions = [{name: run.get(name) for name in CONDITIONS} for run in runs]
    results = {"runs": conditions, "gains": [asdict(gain) for gain in gains]}
    keep(args.out, results)
    if args.plot:
        draw_size_gains(gains, args.plot)
    return results


def _known(args: argparse.Namespace, wanted: Mapping[str, Any]) -> list[BudgetResult]:
    """Return the results of the same run in the file, if it is to be resumed."""
    if not (args.resume and args.out and args.out.exists()):
        return []
    found = run_in(args.out, "budget", "results")
    names = wanted.keys() - {"results", "command"}
    if differing := sorted(name for name in names if found.get(name) != wanted[name]):
        raise ValueError(
            f"Expected {str(args.out)!r} to be of the same run with --resume, got another one: it differs in"
            f" {differing}. Leave out --resume, or pass another --out."
        )
    return [BudgetResult.of(entries) for entries in found["results"]]


def _cells(result: BudgetResult, metric: str) -> tuple[str, ...]:
    again = result.retrained
    return (
        result.method,
        "" if result.method == DENSE else f"{result.ratio:g}",
        f"{result.reached:.2f}",
        f"{result.searched.loss:.4f}",
        percent(result.report.metrics[metric]),
        f"{result.report.loss:.4f}",
        *(("-", "-") if again is None else (percent(again.metrics[metric]), f"{again.loss:.4f}")),
        f"{result.cpu_seconds:.0f}",
    )
