"""Say what a saved model finds in texts: a line of JSON for each.

`python -m axformer_lightning.predict DIR "one text" "another"`
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from axformer_lightning.basics import replacing
from axformer_lightning.predict.predictor import load_predictor
from axformer_lightning.predict.rows import Row, read_rows, texts_of


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = _parser()
    args = parser.parse_intermixed_args(arguments)
    asked = [bool(args.texts), args.question is not None or args.context is not None, args.input is not None]
    if sum(asked) != 1:
        parser.error("expected either TEXT, or --question with --context, or --input; one of them")
    if (args.question is None) != (args.context is None):
        parser.error("expected --question and --context together")
    if args.pairs and (len(args.texts) % 2 or not args.texts):
        parser.error(f"expected an even number of TEXT for --pairs, got {len(args.texts)}")
    if args.output is not None and args.output.exists() and not args.overwrite:
        raise FileExistsError(f"Expected {str(args.output)!r} not to exist. Name another file, or pass --overwrite.")
    if args.output is not None and not args.output.parent.is_dir():
        raise FileNotFoundError(f"Expected an existing directory for {str(args.output)!r}, found none. Create it.")
    if args.threads:
        torch.set_num_threads(args.threads)
    with ExitStack() as files:
        # Read to the end before the model is loaded: a mistake in the last line must not cost all the time before it.
        rows = _rows(args)
        predictor = load_predictor(
            args.model, tokenizer=args.tokenizer, max_length=args.max_length, threads=args.threads
        )
        out: Any = sys.stdout
        if args.output is not None:
            out = files.enter_context(files.enter_context(replacing(args.output)).open("w", encoding="utf-8"))
        shown = None if args.input is not None else True  # None: where there is a terminal
        said = predictor(rows, args.batch_size)
        for prediction in tqdm(said, total=len(rows), unit="row", disable=shown):
            print(json.dumps(prediction, ensure_ascii=False), file=out)


def _rows(args: argparse.Namespace) -> list[Row]:
    if args.question is not None:
        return [{"question": args.question, "context": args.context}]
    if args.texts:
        rows = [*_of_texts(args.texts, args.pairs)]
        for number, row in enumerate(rows, 1):
            texts_of(row, f"row {number}")
        return rows
    if args.input == "-":
        return [*read_rows(sys.stdin.buffer, "standard input")]
    with Path(args.input).open("rb") as file:
        return [*read_rows(file, repr(args.input))]


def _of_texts(texts: Sequence[str], pairs: bool) -> Iterator[Row]:
    if not pairs:
        yield from ({"text": text} for text in texts)
    else:
        yield from ({"text": a, "text_pair": b} for a, b in zip(texts[::2], texts[1::2], strict=True))


def _number(text: str) -> int:
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m axformer_lightning.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="directory of save_pretrained, or exported file")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts to classify or to score")
    parser.add_argument("--pairs", action="store_true", help="two texts each belong together")
    parser.add_argument("--question", help="for a model that answers questions")
    parser.add_argument("--context", help="where the answer is")
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="lines of JSON, - for standard input: text, or text and text_pair, or question and context",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="instead of standard output")
    parser.add_argument("--overwrite", action="store_true", help="replace --output if it exists")
    parser.add_argument("--tokenizer", metavar="DIR", help="where tokenizer.json is, if not with the model")
    parser.add_argument("--max-length", type=_number, help="cut longer inputs to so many tokens, instead of refusing")
    parser.add_argument("--batch-size", type=_number, default=32, help="rows that are run at once")
    parser.add_argument("--threads", type=_number, help="threads of the engine")
    return parser
