"""The commands `rules` and `summary`: a comparison of rules."""

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from omegaconf import OmegaConf

from axformer_lightning.basics import digest_of
from axformer_lightning.benchmark.table import circumstances, gained, keep, percent, row, show_head
from axformer_lightning.runs import train_again
from axformer_lightning.sweeps import (
    RULES,
    Report,
    RuleResult,
    batches_of,
    compare_rules,
    gains,
    labelled_rows,
    rows_in,
)
from axformer_lightning.tasks import TASKS, Rows, load_model, split_off, without_dev_rows

CONFIDENCE = ("loss", "calibration error")
RULE_COLUMNS = ("rule", "accepted", "encoder parameters", "metric", *CONFIDENCE, "retrained: metric", *CONFIDENCE)
GAIN_COLUMNS = {
    "searched": "search set: metric, points",
    "metric": "metric, points",
    "retrained": "retrained, points",
    "loss": "loss, %",
    "calibration_error": "calibration error, points",
    "parameters": "encoder parameters, %",
}


def rules(args: argparse.Namespace) -> dict[str, Any]:
    """Cut one dense model by each rule, retrain it, and show the results on the dev set."""
    rows, task = labelled_rows(args.task, args.data_dir), TASKS[args.task]
    metric = args.metric or next(iter(task.metrics()))
    task.metric(metric)  # refused now, not in the middle
    if unknown := set(args.rules) - set(RULES):
        raise ValueError(f"Expected `--rules` out of {list(RULES)}, got {sorted(unknown)}.")
    train, held_out = split_of(args, rows)
    model, tokenizer = load_model(task, pretrained=args.model, max_length=args.max_length)
    retrain = partial(
        train_again,
        task=task,
        train=train,
        tokenizer=tokenizer,
        epochs=args.retrain_epochs,
        learning_rate=args.learning_rate,
        max_length=args.max_length,
        seed=args.seed,
    )
    results = {
        **circumstances(args),
        "seed": args.seed,
        "metric": metric,
        "samples": len(held_out),
        "rows": mark_of(train, held_out, rows.dev[""]),
        "retrain_epochs": args.retrain_epochs,
        "learning_rate": args.learning_rate,
        "rules": [],
    }
    known = _known(args, results)
    search, dev = (batches_of(part, tokenizer, args.max_length, args.batch_tokens) for part in (held_out, rows.dev[""]))
    show_head(args.console, results, RULE_COLUMNS)
    for result in compare_rules(
        model.to(args.device),
        task,
        metric,
        search,
        dev,
        {name: RULES[name] for name in args.rules},
        retrain if args.retrain_epochs else None,
        known,
    ):
        results["rules"].append(asdict(result))
        head = result.name, f"{result.accepted} of {result.candidates}", f"{result.report.encoder_parameters:,}"
        args.console.print(row(*head, *_cells(result.report, metric), *_cells(result.retrained, metric)))
        keep(args.out, {**results, "rules": [*results["rules"], *_still_known(known, results["rules"])]})
    return results


def summary(args: argparse.Namespace) -> dict[str, Any]:
    """Show the gains of rules over the dense models, from the files that `rules` has written."""
    found = gains([run_in(path, "rules") for path in args.files])
    show_head(args.console, {}, ("task", "rule", "runs", *GAIN_COLUMNS.values()))
    for gain in found:
        spreads = (gained(gain.spreads[name]) for name in GAIN_COLUMNS)
        args.console.print(row(gain.task, gain.rule, gain.runs, *spreads))
    results = {"gains": [asdict(gain) for gain in found]}
    keep(args.out, results)
    return results


def _known(args: argparse.Namespace, wanted: dict[str, Any]) -> dict[str, RuleResult]:
    """Return the results of the same run in the file, if it is to be resumed."""
    if not (args.resume and args.out and args.out.exists()):
        return {}
    found = run_in(args.out, "rules")
    if differing := [name for name in wanted if name != "rules" and found.get(name) != wanted[name]]:
        raise ValueError(
            f"Expected {str(args.out)!r} to be of the same run with --resume, got another one: it differs in"
            f" {differing}. Leave out --resume, or pass another --out."
        )
    return {entries["name"]: RuleResult.of(entries) for entries in found["rules"]}


def _still_known(known: Mapping[str, RuleResult], done: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the file's results that are still to come, so that none is lost if the run is killed."""
    names = {entries["name"] for entries in done}
    return [asdict(result) for name, result in known.items() if name not in names]


def run_in(path: Path, command: str, results: str = "rules") -> dict[str, Any]:
    """Return what a command has written to its ``--out``, with its results under that name.

    Raises:
        ValueError: if the file is another.
    """
    with suppress(ValueError, RecursionError):  # of UTF-8 and of JSON
        run = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(run, dict) and {"task", "metric", results} <= run.keys():
            return run
    raise ValueError(f"Expected a file that `{command} --out` has written, got {str(path)!r}. Pass only such files.")


def _cells(report: Report | None, metric: str) -> Sequence[str]:
    if report is None:
        return ["-"] * 3
    return percent(report.metrics[metric]), f"{report.loss:.4f}", percent(report.calibration_error)


def mark_of(*parts: Dataset) -> str:
    """Return what tells rows from others, however many there are."""
    return digest_of(repr(part.to_dict()).encode() for part in parts).hex()[:16]


def split_of(args: argparse.Namespace, rows: Rows) -> tuple[Dataset, Dataset]:
    """Return the rows that the model was trained on, and those that were held out, without dev's."""
    train = rows.train
    if not args.rows:
        _check_run(args)
        kept, held_out = split_off(train, args.search_fraction, args.seed, TASKS[args.task].apart)
    else:
        numbers = rows_in(args.rows, len(train))
        kept, held_out = train.select(sorted(set(range(len(train))) - set(numbers))), train.select(numbers)
    return kept, without_dev_rows(held_out, rows.dev)


def _check_run(args: argparse.Namespace) -> None:
    """Refuse to split otherwise than the run of train.py that the model comes from, if it does."""
    path = Path(args.model).parent / ".hydra" / "config.yaml"
    if not path.is_file():
        return
    run = OmegaConf.load(path)
    wanted = {
        "--task": OmegaConf.select(run, "task.name"),
        "--search-fraction": OmegaConf.select(run, "data.search_fraction"),
        "--seed": OmegaConf.select(run, "seed"),
    }
    got = {"--task": args.task, "--search-fraction": args.search_fraction, "--seed": args.seed}
    if differing := {name: value for name, value in wanted.items() if value is not None and value != got[name]}:
        options = " ".join(f"{name} {value}" for name, value in differing.items())
        raise ValueError(
            f"Expected the rows that the run of {args.model!r} held out, got others, which it was trained on. Pass"
            f" {options}, or --rows."
        )
