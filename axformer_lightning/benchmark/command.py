"""Measure the cost of a search, rules, ways to a given size, and saved models, on your model and data.

`python -m axformer_lightning.benchmark search --model DIR --task mrpc --rows FILE:KEY`
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from axformer_lightning.benchmark.arguments import amount, count, names, number, numbers, ratios, shapes
from axformer_lightning.benchmark.budget import budget, budgets_summary
from axformer_lightning.benchmark.costs import growth, search
from axformer_lightning.benchmark.deploy import deploy
from axformer_lightning.benchmark.hard_attention import hard_attention
from axformer_lightning.benchmark.latency import latency
from axformer_lightning.benchmark.prediction import prediction
from axformer_lightning.benchmark.rules import rules, summary
from axformer_lightning.budgets import Effort
from axformer_lightning.criteria import Rule
from axformer_lightning.scoring import BATCH_TOKENS
from axformer_lightning.sweeps import METHODS, RULES
from axformer_lightning.sweeps.engines import ENGINES

# What train.py calls its settings in messages, and what this command does.
OPTIONS = {
    "data.max_length": "--max-length",
    "data.search_fraction": "--search-fraction",
    "task.headline": "--metric",
    "data_dir=DIR": "--data-dir DIR",
    "model.pretrained=DIR": "--model DIR",
}
SHAPES = "1x128,8x128,4x384,4x512"
DEPLOYED = "1x32,1x128,8x128,32x128"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run a command, and return the numbers that it writes to ``--out``."""
    args = _parser().parse_args(arguments)
    args.command = shlex.join(["python", "-m", "axformer_lightning.benchmark", *(arguments or sys.argv[1:])])
    args.console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    if getattr(args, "device", None) == "cuda" and not torch.cuda.is_available():
        raise ValueError("Expected a GPU that torch can use for `--device cuda`, got none. Use --device cpu.")
    if getattr(args, "resume", False) and not args.out:
        raise ValueError("Expected `--out` with `--resume`, got none. Pass the file of the run that is to be resumed.")
    for path in filter(None, (getattr(args, name, None) for name in ("out", "plot", "table"))):
        if not path.parent.is_dir():
            raise ValueError(f"Expected an existing directory for {str(path)!r}, got none. Create it first.")
        if path.is_dir():
            raise ValueError(f"Expected a file to write, got the directory {str(path)!r}. Add a name to it.")
    if getattr(args, "threads", None):
        torch.set_num_threads(args.threads)
    results: dict[str, Any] = args.run(args)
    return results


def command(arguments: Sequence[str] | None = None) -> int:
    """Run a command as :func:`main` does; say in a line what went wrong, if anything did, and return the exit status.

    Args:
        arguments: of the command line; by default those of the process.

    Example:
        >>> command(["summary", "nowhere.json"])  # error: [Errno 2] No such file or directory: 'nowhere.json'
        1
    """
    try:
        main(arguments)
    except (ValueError, OSError, ImportError) as error:
        said = " ".join(str(error).split())
        for setting, option in OPTIONS.items():
            said = said.replace(f"`{setting}`", f"`{option}`")
        sys.stderr.write(f"error: {said}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m axformer_lightning.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    costs, growing, deciding, summing, shrinking, comparing, timing, predicting, hard, deploying = (
        commands.add_parser(command.__name__.replace("_", "-"), help=text)
        for command, text in {
            search: "the cost of a search, with its features added one by one",
            growth: "cost against the numbers of samples and layers",
            rules: "one model cut by each rule, as cut and retrained",
            summary: "gains of rules over tasks and seeds, from the files of `rules`",
            budget: "one model made smaller by each of several ways, at equal size",
            budgets_summary: "differences from the dense model over tasks and seeds, from the files of `budget`",
            latency: "latency of saved models, measured in turns",
            prediction: "how well the times of its blocks predict the latency of a cut model",
            hard_attention: "what hard layers take beside soft ones, by torch's operators and by the kernels",
            deploy: "saved models in every engine and precision: metric, bytes, milliseconds",
        }.items()
    )
    _add_data(costs, growing, deciding, shrinking, deploying)
    _add_device(costs, growing, deciding, shrinking, timing, predicting)
    which = costs.add_mutually_exclusive_group(required=True)
    which.add_argument("--rows", metavar="FILE[:KEY]", help="JSON list of row numbers of train")
    which.add_argument("--samples", type=number, help="this many first rows of train")
    costs.add_argument("--majority", type=float, default=Rule.majority, help="share of samples that must be not worse")
    growing.add_argument("--model", help="model for --sizes: directory or hub id")
    growing.add_argument("--sizes", type=numbers, default=[], help="numbers of samples, such as 500,2000,8000")
    growing.add_argument("--layers", type=numbers, default=[], help="layers of random models, such as 6,12,24")
    growing.add_argument("--samples", type=number, default=500, help="rows of train for --layers")
    growing.add_argument("--plot", type=Path, metavar="FILE.png", help="picture of the curves")
    for command in (costs, growing):
        command.add_argument("--random", action="store_true", help="draw rows at random, repeated if necessary")
        command.add_argument("--cache-memory", type=count, default=2**30, help="bytes for the cache")
    for command in (costs, deciding, shrinking):
        command.add_argument("--model", required=True, help="fine-tuned model: directory or hub id")
    deciding.add_argument("--rules", type=names, default=list(RULES), help=f"some of {','.join(RULES)}")
    deciding.add_argument("--metric", help="metric that rules decide by; by default the first of the task")
    deciding.add_argument("--retrain-epochs", type=count, default=0, help="epochs of retraining")
    deciding.add_argument("--resume", action="store_true", help="keep the rules that --out already holds")
    _add_held_out(deciding, shrinking, deploying)
    for command in (deciding, shrinking):
        command.add_argument("--learning-rate", type=amount, default=2e-5, help="learning rate of retraining")
    _add_deploying(deploying)
    _add_budget(shrinking)
    summing.add_argument("files", type=Path, nargs="+", metavar="FILE.json", help="one file per dense model")
    comparing.add_argument("files", type=Path, nargs="+", metavar="FILE.json", help="one file per dense model")
    comparing.add_argument("--plot", type=Path, metavar="FILE.png", help="picture of the differences")
    _add_latency(timing)
    _add_prediction(predicting)
    _add_hard_attention(hard)
    for command in commands.choices.values():
        command.add_argument("--out", type=Path, metavar="FILE.json", help="file for the numbers")
    for command, run in (
        (costs, search), (growing, growth), (deciding, rules), (summing, summary), (shrinking, budget),
        (comparing, budgets_summary), (timing, latency), (predicting, prediction),
        (hard, hard_attention), (deploying, deploy),
    ):  # fmt: skip
        command.set_defaults(run=run)
    return parser


def _add_held_out(*commands: argparse.ArgumentParser) -> None:
    for command in commands:
        command.add_argument("--rows", metavar="FILE[:KEY]", help="JSON list of the rows of train that were held out")
        command.add_argument(
            "--search-fraction", type=float, default=0.15, help="share held out, as in train.py; without --rows"
        )
        command.add_argument("--seed", type=count, default=0, help="seed of the held-out rows and of the training")


def _add_budget(command: argparse.ArgumentParser) -> None:
    command.add_argument("--ratios", type=ratios, default=[1.5, 2, 3.2, 5, 10], help="of the encoder, such as 2,3.2")
    command.add_argument("--methods", type=names, default=list(METHODS), help=f"some of {','.join(METHODS)}")
    command.add_argument("--metric", help="metric that the table shows; by default the first of the task")
    command.add_argument(
        "--search-samples", type=number, help="most held-out rows that decide, as data.max_search_samples in train.py"
    )
    command.add_argument(
        "--train-samples", type=number, help="most rows of --epochs, as data.max_train_samples in train.py"
    )
    command.add_argument("--tries", type=count, default=Effort.tries, help="swaps that ours measures in each slice")
    command.add_argument(
        "--table-samples", type=number, default=Effort.table_samples, help="samples by which it measures single widths"
    )
    command.add_argument("--bf16", action="store_true", help="ours measures in bfloat16 where that is faster here")
    command.add_argument("--epochs", type=count, default=0, help="epochs that every model is trained once more")
    command.add_argument("--resume", action="store_true", help="keep the methods that --out already holds in full")
    command.add_argument("--plot", type=Path, metavar="FILE.png", help="picture of the differences")


def _add_deploying(command: argparse.ArgumentParser) -> None:
    command.add_argument("models", nargs="+", metavar="DIR", help="artifact; the others are compared with the first")
    command.add_argument("--engines", type=names, help=f"some of {','.join(ENGINES)}; by default what is installed")
    command.add_argument("--shapes", type=shapes, default=shapes(DEPLOYED), help=f"of batches, such as {DEPLOYED}")
    command.add_argument("--metric", help="metric that is shown; by default the first of the task")
    command.add_argument("--search-samples", type=number, help="most held-out rows that decide what is in int8")
    command.add_argument("--directory", type=Path, metavar="DIR", help="where files stay; by default nowhere")
    command.add_argument("--rounds", type=number, default=7, help="how often each model is timed at a shape")
    command.add_argument("--threads", type=number, help="threads of all engines")
    command.add_argument("--plot", type=Path, metavar="FILE.png", help="picture: metric against time and bytes")


def _add_latency(command: argparse.ArgumentParser) -> None:
    command.add_argument("models", nargs="+", metavar="DIR", help="artifact; the others are compared with the first")
    command.add_argument("--engines", type=names, help=f"some of {','.join(ENGINES)}; by default PyTorch float")
    command.add_argument("--length", type=number, default=128, help="tokens of a sample")
    command.add_argument("--batch-sizes", type=numbers, default=[1, 32], help="samples in a batch, such as 1,32")
    command.add_argument("--rounds", type=number, default=7, help="how often each model is timed at a batch size")
    command.add_argument("--seconds", type=amount, default=20.0, help="after so many no further round begins")
    command.add_argument(
        "--first-token-only", action="store_true", help="all models skip what a head on the first token never reads"
    )


def _add_prediction(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="DIR", help="model of which nothing was cut: directory or hub id")
    command.add_argument("--length", type=number, default=128, help="tokens of a sample")
    command.add_argument("--batch-size", type=number, default=32, help="samples read at once")
    command.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights")
    command.add_argument("--plans", type=number, default=6, help="how many random plans are timed")
    command.add_argument(
        "--engine", help=f"one of {','.join(ENGINES)}: a line fitted to whole models instead of a table of blocks"
    )
    command.add_argument(
        "--fitted", type=number, default=12, help="with --engine, the plans that the line is fitted to"
    )
    command.add_argument("--seed", type=count, default=0, help="of the plans")
    command.add_argument("--seconds", type=amount, default=20.0, help="of timing the blocks, and again the plans")
    command.add_argument("--table", type=Path, metavar="FILE.json", help="where the latency table goes")


def _add_hard_attention(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2", help="directory or hub id")
    command.add_argument("--shapes", type=shapes, default=shapes(SHAPES), help=f"of batches, such as {SHAPES}")
    command.add_argument("--layers", type=numbers, default=[3, 6], help="numbers of hard layers, from the last one")
    command.add_argument("--k", type=number, default=30, help="keys that a query keeps")
    command.add_argument("--renormalize", action="store_true", help="scale the kept weights to sum to one")
    command.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa", help="how soft layers attend")
    command.add_argument("--training", action="store_true", help="time steps of training, with dropout and gradients")
    command.add_argument("--rounds", type=number, default=15, help="how often each model is timed")
    command.add_argument("--threads", type=number, help="threads of torch")


def _add_data(*commands: argparse.ArgumentParser) -> None:
    for command in commands:
        command.add_argument("--task", required=True, help="one of GLUE's tasks, or demo")
        command.add_argument("--data-dir", help="directory with the official files")
        command.add_argument("--max-length", type=number, default=128, help="tokens of a sample")
        command.add_argument("--batch-tokens", type=number, default=BATCH_TOKENS, help="tokens in a batch")


def _add_device(*commands: argparse.ArgumentParser) -> None:
    for command in commands:
        command.add_argument("--threads", type=number, help="threads of torch")
        command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
