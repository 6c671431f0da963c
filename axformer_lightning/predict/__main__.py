"""`python -m axformer_lightning.predict`: a mistake of the user ends in one sentence."""

import sys

from axformer_lightning.predict.command import main

if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # `| head` has read enough
        sys.stderr.close()
        sys.exit(1)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
