"""`python -m axformer_lightning.kernels build`."""

import argparse
import sys

from axformer_lightning.kernels.building import BuildError, build


def main() -> str | None:
    """Build the kernels into the cache directory, and print where they are; return what went wrong, if anything did."""
    parser = argparse.ArgumentParser(prog="python -m axformer_lightning.kernels", description="The kernels in C++.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    building = commands.add_parser("build", help="compile them now; otherwise this is done at first use")
    building.add_argument("--again", action="store_true", help="compile even if they are in the cache directory")
    args = parser.parse_args()
    try:
        sys.stdout.write(f"{build(again=args.again)}\n")
    except BuildError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())
