"""What a search costs here: `python -m axformer_lightning.benchmark search --model DIR --task mrpc --rows FILE:KEY`."""

import argparse
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console
from torch import Tensor

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.criteria import Rule
from axformer_lightning.deploy.search_cost import Cost, draw_growth, growth_cost, search_costs
from axformer_lightning.finding import Pruning, SearchSettings
from axformer_lightning.plan import write_atomically
from axformer_lightning.scoring import BATCH_TOKENS, batches_by_length
from axformer_lightning.tasks import TASKS, Task, load_model, load_rows, texts_of
from axformer_lightning.tasks.stages import device_name

RANDOM_MODEL = {"model_type": "bert", "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
STEPS = (
    "step", "layer-tokens", "of exhaustive", "seconds", "of exhaustive", "kept MiB", "GPU MiB", "candidates",
    "accepted", "decisions that differ",
)  # fmt: skip
GROWTH = ("grows", "to", "candidates", "layer-tokens", "seconds", "kept MiB", "peak RSS MiB", "GPU MiB")
GROWTH_NOTE = "One candidate per layer (hard attention), evaluated to the end: not a whole search."
MEBIBYTE = 2**20


def search(args: argparse.Namespace) -> dict[str, Any]:
    """Run the same search exhaustively and with each feature switched on, and show what each cost."""
    task, rows = _train_rows(args)
    model, tokenizer = load_model(task, pretrained=args.model, max_length=args.max_length)
    chosen = rows.select(_numbers_in(args.rows, len(rows)) if args.rows else _first(args.samples, rows, args.random))
    samples = _encoded(chosen, tokenizer, padding="max_length", max_length=args.max_length)
    settings = SearchSettings(HardAttention(), Pruning(), Rule(majority=args.majority))
    results = {**_circumstances(args), "samples": len(chosen), "majority": args.majority, "steps": []}
    _show_head(args.console, results, STEPS)
    costs = search_costs(
        model.to(args.device), samples, settings, cache_memory=args.cache_memory, batch_tokens=args.batch_tokens
    )
    for cost in costs:
        results["steps"].append(asdict(cost))
        first = results["steps"][0]
        args.console.print(_row(
            cost.step, f"{cost.layer_tokens:,.0f}", f"{cost.layer_tokens / first['layer_tokens']:.3f}",
            f"{cost.seconds:.1f}", f"{cost.seconds / first['seconds']:.3f}", _mebibytes(cost.kept_bytes),
            _mebibytes(cost.device_bytes), cost.candidates, cost.accepted, cost.differing,
        ))  # fmt: skip
        _keep(args.out, results)
    return results


def growth(args: argparse.Namespace) -> dict[str, Any]:
    """Show how the cost of a search grows with the search set and with the model's layers."""
    task, rows = _train_rows(args)
    if not args.sizes and not args.layers:
        raise ValueError("Expected `--sizes` or `--layers` or both, got neither. Pass --sizes 500,2000,8000.")
    if args.sizes and not args.model:
        raise ValueError(
            "Expected `--model` with `--sizes`, got none. Pass a directory or a hub id, or --layers alone."
        )
    for size in (*args.sizes, args.samples) if args.layers else args.sizes:
        _first(size, rows, args.random)  # refused now, not after the smaller ones
    results = {**_circumstances(args), "note": GROWTH_NOTE, "samples": [], "layers": []}
    curves: dict[str, list[tuple[int, Cost]]] = {}
    _show_head(args.console, results, GROWTH)
    for grows, size, cost in _grown(args, task, rows):
        curves.setdefault(grows, []).append((size, cost))
        results[grows].append({grows: size, **asdict(cost)})
        args.console.print(_row(
            grows, f"{size:,}", cost.candidates, f"{cost.layer_tokens:,.0f}", f"{cost.seconds:.1f}",
            _mebibytes(cost.kept_bytes), _mebibytes(cost.peak_rss), _mebibytes(cost.device_bytes),
        ))  # fmt: skip
        _keep(args.out, results)
    args.console.print(f"\n{GROWTH_NOTE}")
    if args.plot:
        draw_growth(curves, args.plot)
    return results


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the command, and return what it writes to ``--out``."""
    args = _parser().parse_args(arguments)
    args.console = Console(markup=False, highlight=False, soft_wrap=True)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("Expected a GPU that torch can use for `--device cuda`, got none. Use --device cpu.")
    for path in filter(None, (args.out, getattr(args, "plot", None))):
        if not path.parent.is_dir():
            raise ValueError(f"Expected an existing directory for {str(path)!r}, got none. Make it first.")
    if args.threads:
        torch.set_num_threads(args.threads)
    results: dict[str, Any] = args.run(args)
    return results


def _grown(args: argparse.Namespace, task: Task, rows: Dataset) -> Iterator[tuple[str, int, Cost]]:
    if args.sizes:
        model, tokenizer = load_model(task, pretrained=args.model, max_length=args.max_length)
        for size in sorted(args.sizes):
            yield "samples", size, _growth_cost(args, model, tokenizer, rows.select(_first(size, rows, args.random)))
    chosen = rows.select(_first(args.samples, rows, args.random)) if args.layers else rows
    for num_layers in sorted(args.layers):
        torch.manual_seed(0)
        config = {**RANDOM_MODEL, "num_hidden_layers": num_layers}
        model, tokenizer = load_model(task, config=config, texts=texts_of(chosen), max_length=args.max_length)
        yield "layers", num_layers, _growth_cost(args, model, tokenizer, chosen)


def _growth_cost(args: argparse.Namespace, model: Any, tokenizer: Any, rows: Dataset) -> Cost:
    samples = _encoded(rows, tokenizer, padding="longest", max_length=args.max_length)
    batches = batches_by_length([samples], args.batch_tokens, model.config.pad_token_id or 0)
    del samples
    return growth_cost(model.to(args.device), batches, cache_memory=args.cache_memory)


def _train_rows(args: argparse.Namespace) -> tuple[Task, Dataset]:
    if args.task in TASKS and TASKS[args.task].kind == "question_answering":
        some = [name for name, task in TASKS.items() if task.kind != "question_answering"]
        raise ValueError(f"Expected a task with a label for each sample, one of {some}, got {args.task!r}.")
    rows = load_rows(args.task, args.data_dir).train
    return TASKS[args.task], rows


def _first(num_samples: int, rows: Dataset, at_random: bool) -> Iterable[int]:
    """Return the numbers of the first rows; or of random ones, each as often as it takes."""
    if at_random:
        return list(islice(_shuffled(len(rows)), num_samples))
    if num_samples > len(rows):
        raise ValueError(
            f"Expected at most {len(rows)} samples, the rows of train, got {num_samples}. Pass fewer, or --random to"
            " draw rows at random and repeat them."
        )
    return range(num_samples)


def _shuffled(num_rows: int) -> Iterator[int]:
    generator = random.Random(0)
    while True:
        yield from generator.sample(range(num_rows), num_rows)


def _numbers_in(path_and_key: str, num_rows: int) -> list[int]:
    """Return the numbers of rows in a JSON file: a list, or one under a key."""
    path, key = Path(path_and_key), None
    if not path.exists() and ":" in path_and_key:
        name, _, key = path_and_key.rpartition(":")
        path = Path(name)
    numbers = json.loads(path.read_text(encoding="utf-8"))
    if key is not None:
        if not isinstance(numbers, dict) or key not in numbers:
            keys = sorted(numbers) if isinstance(numbers, dict) else "no keys"
            raise ValueError(f"Expected the key {key!r} in {str(path)!r}, got {keys}.")
        numbers = numbers[key]
    if not isinstance(numbers, list) or not numbers or not all(type(number) is int for number in numbers):
        raise ValueError(
            f"Expected a list of row numbers in {path_and_key!r}, got {str(numbers)[:60]}. If it has a key, pass"
            " FILE.json:KEY."
        )
    if not 0 <= min(numbers) <= max(numbers) < num_rows:
        raise ValueError(
            f"Expected row numbers of 0 to {num_rows - 1} in {path_and_key!r}, got {min(numbers)} to {max(numbers)}."
            " Pass the numbers of this task's train, counted from 0 after the header."
        )
    return numbers


def _encoded(rows: Dataset, tokenizer: Any, **options: Any) -> dict[str, Tensor]:
    texts = [rows[column][:] for column in ("text_a", "text_b") if column in rows.column_names]
    batch = tokenizer(*texts, truncation=True, return_tensors="pt", **options)
    return {**batch, "labels": torch.tensor(rows["label"][:])}


def _circumstances(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "task": args.task,
        "model": args.model,
        "device": device_name(torch.device(args.device)),
        "torch": torch.__version__,
        "max_length": args.max_length,
        "batch_tokens": args.batch_tokens,
        "cache_memory": args.cache_memory,
    }


def _show_head(console: Console, results: dict[str, Any], columns: Sequence[str]) -> None:
    console.print(", ".join(f"{name} {value}" for name, value in results.items() if not isinstance(value, list)))
    console.print(f"\n{_row(*columns)}\n{_row(*['---'] * len(columns))}")


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _mebibytes(num_bytes: int | None) -> str:
    return "-" if num_bytes is None else f"{num_bytes / MEBIBYTE:,.1f}"


def _keep(path: Path | None, results: dict[str, Any]) -> None:
    if path:
        write_atomically(path, json.dumps(results, indent=2) + "\n")


def _number(text: str) -> int:
    with suppress(ValueError):
        if int(text) >= 1:
            return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")


def _numbers(text: str) -> list[int]:
    return [_number(part) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m axformer_lightning.benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("search", help="each feature of the search beside the exhaustive procedure")
    which = one.add_mutually_exclusive_group(required=True)
    which.add_argument("--rows", metavar="FILE[:KEY]", help="JSON list of row numbers of train")
    which.add_argument("--samples", type=_number, help="this many rows of train, the first ones")
    one.add_argument("--model", required=True, help="fine-tuned model: directory or hub id")
    one.add_argument("--majority", type=float, default=Rule.majority, help="share of samples that must be not worse")
    one.set_defaults(run=search)
    two = commands.add_parser("growth", help="cost against samples and layers")
    two.add_argument("--model", help="model for --sizes: directory or hub id")
    two.add_argument("--sizes", type=_numbers, default=[], help="numbers of samples, as 500,2000,8000")
    two.add_argument("--layers", type=_numbers, default=[], help="numbers of layers of random models, as 6,12,24")
    two.add_argument("--samples", type=_number, default=500, help="rows of train for --layers")
    two.add_argument("--plot", type=Path, metavar="FILE.png", help="picture of the curves")
    two.set_defaults(run=growth)
    for command in (one, two):
        command.add_argument("--task", required=True, help="one of GLUE's tasks, or demo")
        command.add_argument("--data-dir", help="directory with the official files")
        command.add_argument("--random", action="store_true", help="draw rows at random, and repeat them if need be")
        command.add_argument("--max-length", type=_number, default=128, help="tokens of a sample")
        command.add_argument("--batch-tokens", type=_number, default=BATCH_TOKENS, help="of a batch by length")
        command.add_argument("--cache-memory", type=int, default=2**30, help="bytes for what is kept")
        command.add_argument("--threads", type=_number, help="of torch")
        command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        command.add_argument("--out", type=Path, metavar="FILE.json", help="where the numbers go")
    return parser


if __name__ == "__main__":
    main()
