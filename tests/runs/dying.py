"""train.py in a process that kills itself: `python dying.py N overrides...` dies by SIGKILL in its N-th `fsync`.

What was to be safe on disk then is left torn, as a crash may leave it. With N = 0 the process lives, and says how many
there were; in any case it says when it has the directory for itself. Latencies, which take longer than all the rest,
are not measured.
"""

import fcntl
import itertools
import os
import runpy
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main(last):
    fsync, flock, count = os.fsync, fcntl.flock, itertools.count(1)

    def dying_fsync(descriptor):
        if next(count) == last:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path.is_file():
                size = path.stat().st_size
                os.truncate(path, size // 2 if path.suffix == ".tmp" else size - 10)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    def telling_flock(*args):
        flock(*args)
        sys.stdout.write("begun\n")
        sys.stdout.flush()

    sys.path.insert(0, str(ROOT))
    from axformer_lightning.runs import reporting

    os.fsync, fcntl.flock = dying_fsync, telling_flock
    reporting.latencies_ms = lambda models, length: {name: {"batch1": 1.0} for name in models}
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    sys.stdout.write(f"\nfsyncs {next(count) - 1}\n")


if __name__ == "__main__":
    main(int(sys.argv.pop(1)))
