"""`python -m axformer_lightning.benchmark`."""

import sys

from axformer_lightning.benchmark.command import command

if __name__ == "__main__":
    sys.exit(command())
