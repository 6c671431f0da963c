"""`python -m axformer_lightning.benchmark`."""

from axformer_lightning.benchmark.command import main

if __name__ == "__main__":
    main()
