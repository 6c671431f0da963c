"""`python -m axformer_lightning.predict MODEL "a text"`: what an artifact or an exported file says of texts."""

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from axformer_lightning.exporting.texts import LineOfFile, Predictor, Sample, open_model


def main(arguments: Sequence[str] | None = None) -> str | None:
    """Print a line of JSON for each sample; return what went wrong, if anything did.

    Args:
        arguments: of the command line; by default those of the process.
    """
    parser = _parser()
    args = parser.parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    given = [bool(args.texts), args.question is not None, args.file is not None]
    if sum(given) != 1 or (args.question is None) != (args.context is None):
        parser.error("expected one of: texts, --question with --context, --file")
    if args.pairs and not args.texts:
        parser.error("expected --pairs with texts alone; in a --file, {text, text_pair} is a pair")
    try:
        samples = _samples(args)
        predictor = Predictor(open_model(args.model, args.threads), truncate=args.truncate)
        with tqdm(total=len(samples), unit=" samples", disable=None if args.file else True) as bar:
            for said in predictor(samples, args.batch_size):
                sys.stdout.write(json.dumps(said, ensure_ascii=False) + "\n")
                bar.update()
    except (ValueError, OSError, ImportError) as error:
        return str(error)
    return None


def _samples(args: argparse.Namespace) -> list[Sample]:
    if args.file is not None:
        return [*_of_file(args.file)]
    if args.question is not None:
        return [{"question": args.question, "context": args.context}]
    if not args.pairs:
        return [{"text": text} for text in args.texts]
    if len(args.texts) % 2:
        raise ValueError(f"Expected an even number of texts with `--pairs`, got {len(args.texts)}.")
    return [{"text": a, "text_pair": b} for a, b in zip(args.texts[::2], args.texts[1::2], strict=True)]


def _of_file(name: str) -> Iterator[Sample]:
    content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            sample = json.loads(line.decode("utf-8-sig"))  # the first line may begin with a byte-order mark
        except (ValueError, RecursionError) as error:  # of UTF-8 and of JSON, and where it is nested too deep
            raise ValueError(
                f"Expected JSON in UTF-8 in line {number} of {name!r}, got {line[:60]!r}: {error}"
            ) from error
        if isinstance(sample, str):
            sample = {"text": sample}
        if not isinstance(sample, dict):
            raise ValueError(f"Expected a text or an object in line {number} of {name!r}, got {line[:60]!r}.")
        yield LineOfFile(sample, f"in line {number} of {name!r}")


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m axformer_lightning.predict",
        description="Say what a model makes of texts, a line of JSON for each.",
    )
    parser.add_argument("model", help="directory of an artifact, or an exported file (.onnx, .xml, .pt2)")
    parser.add_argument("texts", nargs="*", help="to be classified or rated")
    parser.add_argument("--pairs", action="store_true", help="take the texts two by two")
    parser.add_argument("--question", help="to be answered from --context")
    parser.add_argument("--context", help="text with the answer")
    parser.add_argument(
        "--file", help="lines of JSON ('-': standard input): a text, or {text, text_pair} or {question, context}"
    )
    parser.add_argument("--batch-size", type=_positive, default=32, help="samples that are run at once (default 32)")
    parser.add_argument("--threads", type=_positive, help="of the engine (default: as many as it likes)")
    parser.add_argument("--truncate", action="store_true", help="cut texts that are too long instead of refusing them")
    return parser


if __name__ == "__main__":
    sys.exit(main())
