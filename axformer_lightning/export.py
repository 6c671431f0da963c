"""`python -m axformer_lightning.export DIR model.onnx`: an artifact as a file that other engines run."""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from axformer_lightning.exporting import FORMATS, export_model
from axformer_lightning.exporting.export import OPSET, files_of


def main(arguments: Sequence[str] | None = None) -> str | None:
    """Write the file and say how large it is; return what went wrong, if anything did.

    Args:
        arguments: of the command line; by default those of the process.
    """
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        path = export_model(
            args.directory,
            args.path,
            format=args.format,
            int8=args.int8 or None,
            opset=args.opset,
            overwrite=args.overwrite,
        )
    except (ValueError, OSError, ImportError) as error:
        return str(error)
    size = sum(file.stat().st_size for file in files_of(path, args.format)) / 1e6
    then = shlex.join(["python", "-m", "axformer_lightning.predict", str(path), "a text"])
    sys.stdout.write(f"{path}: {size:.1f} MB\nNext: {then}\n")
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m axformer_lightning.export", description="Write an artifact as a file that other engines run."
    )
    parser.add_argument("directory", help="of the artifact, as save_pretrained wrote it, or its id on the hub")
    parser.add_argument("path", type=Path, help="of the file; its end says the format")
    parser.add_argument("--format", choices=[*FORMATS], help="by default what the end of the path says")
    parser.add_argument(
        "--int8", action="store_true", help="all blocks and the embeddings in int8, unless the artifact says which"
    )
    parser.add_argument("--opset", type=int, default=OPSET, help=f"version of ONNX's operators (default {OPSET})")
    parser.add_argument("--overwrite", action="store_true", help="replace a file of this name")
    return parser


if __name__ == "__main__":
    sys.exit(main())
