"""Write the report of a run or of a sweep: `python -m axformer_lightning.report DIR`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from axformer_lightning.report.keeping import keep_records
from axformer_lightning.report.page import write_report
from axformer_lightning.report.sections import runs_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report, or keep records of the runs; say where they are, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m axformer_lightning.report", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR", help="of a run, or of a sweep, at any depth")
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--floor", type=float, metavar="POINTS", help="say whether no more than so many points are lost (95 %%)"
    )
    either.add_argument(
        "--records", type=Path, metavar="OUT", help="instead, copy what the page is made of there, without weights"
    )
    args = parser.parse_args(arguments)
    try:
        if args.records is not None:
            kept = keep_records(args.directory, args.records)
            sys.stdout.write(f"{runs_of(len(kept))} kept in {args.records}.\n")
            return 0
        page = write_report(args.directory, floor=args.floor)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{page}, report.md and the pictures in report/ are written.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
