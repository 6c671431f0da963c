"""The command `deploy`: saved models in every engine and precision, on the dev set, on disk and by the clock."""

import argparse
import tempfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from axformer_lightning.artifacts import load_pretrained
from axformer_lightning.artifacts.files import PLAN_FILE
from axformer_lightning.benchmark.rules import split_of
from axformer_lightning.benchmark.table import keep, percent, provenance, row, show_head
from axformer_lightning.costs import num_positions
from axformer_lightning.exporting.export import tokenizer_in
from axformer_lightning.runs.environment import device_name
from axformer_lightning.sweeps import batches_of, labelled_rows
from axformer_lightning.sweeps.deploy import Deployed, deployed
from axformer_lightning.sweeps.deploy_picture import draw_deployed
from axformer_lightning.sweeps.engines import ENGINES, check_engines
from axformer_lightning.tasks import TASKS, Task, at_most
from axformer_lightning.tasks.models import check_labels, head_of


def deploy(args: argparse.Namespace) -> dict[str, Any]:
    """Show what each model is worth, weighs and takes in each engine; ratios are to the first row."""
    engines = args.engines or list(ENGINES)
    check_engines(args.engines or [])
    rows, task = labelled_rows(args.task, args.data_dir), TASKS[args.task]
    metric = args.metric or next(iter(task.metrics()))
    task.metric(metric)
    names = [Path(path).name for path in args.models]
    if len(set(names)) < len(names):
        raise ValueError(f"Expected directories with names of their own, got {names}. Rename one.")
    args.model = args.models[0]
    _, held_out = split_of(args, rows)
    held_out = at_most(held_out, args.search_samples, args.seed, "--search-samples")
    longest = max(args.max_length, *(tokens for _, tokens in args.shapes))
    models = {name: _loaded(path, task, longest) for name, path in zip(names, args.models, strict=True)}
    tokenizers = {name: _tokenizer(path) for name, path in zip(names, args.models, strict=True)}
    search, dev = (
        {name: batches_of(part, own, args.max_length, args.batch_tokens) for name, own in tokenizers.items()}
        for part in (held_out, rows.dev[""])
    )
    shapes = [f"{samples}x{tokens}" for samples, tokens in args.shapes]
    results: dict[str, Any] = {
        "task": args.task, "metric": metric, "device": device_name(torch.device("cpu")), "torch": torch.__version__,
        "threads": torch.get_num_threads(), "samples": len(held_out), **provenance(args), "points": [],
    }  # fmt: skip
    timed = [f"{shape}, {unit}" for shape in shapes for unit in ("ms", "times faster")]
    show_head(
        args.console, results, ("model", "engine", metric, "loss", "MB", "times smaller", *timed, "parts in int8")
    )
    kept = nullcontext(args.directory) if args.directory else tempfile.TemporaryDirectory()
    points: list[Deployed] = []
    with kept as directory:
        options = {"shapes": args.shapes, "engines": engines, "threads": torch.get_num_threads(), "rounds": args.rounds}
        for point in deployed(models, task, search, dev, Path(directory), **options):
            points.append(point)
            results["points"].append(asdict(point))
            args.console.print(row(*_cells(point, points[0], metric, shapes)))
    keep(args.out, results)
    if args.plot:
        draw_deployed(points, args.plot, metric=metric, shape=shapes[-1])
    return results


def _loaded(path: str, task: Task, longest: int) -> Any:
    if not Path(path, PLAN_FILE).is_file():
        raise ValueError(f"Expected a directory of `save_pretrained`, got {path!r}. Save the model with it first.")
    model = load_pretrained(path).float()
    kind = head_of(task)[0].__name__.removeprefix("AutoModel")
    if not type(model).__name__.endswith(kind):
        raise ValueError(
            f"Expected models with a head of the task's kind, {kind!r}, got {path!r} with {type(model).__name__}. Give"
            " others, or another `--task`."
        )
    check_labels(path, model.config, task, "Or give another model, or another `--task`.")
    if longest > (positions := num_positions(model)):
        raise ValueError(
            f"Expected at most {positions} tokens by `--max-length` and `--shapes`, the positions of {path!r}, got"
            f" {longest}. Lower them."
        )
    return model


def _tokenizer(path: str) -> Any:
    tokenizer = tokenizer_in(Path(path))
    if tokenizer is None:
        raise ValueError(f"Expected a tokenizer beside the model, got no tokenizer.json in {path!r}. Save it there.")
    return tokenizer


def _cells(point: Deployed, first: Deployed, metric: str, shapes: list[str]) -> tuple[str, ...]:
    times = [cell for s in shapes for cell in (f"{point.ms[s]:.2f}", f"{first.ms[s] / point.ms[s]:.2f}")]
    size = f"{point.size_bytes / 1e6:.1f}", f"{first.size_bytes / point.size_bytes:.2f}"
    worth = percent(point.metrics[metric]), f"{point.loss:.4f}"
    return point.model, point.engine, *worth, *size, *times, str(point.int8 or "-")
