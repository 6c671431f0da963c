"""What a run says of itself, in `state.json` in its directory: running, done, failed or interrupted."""

import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from lightning.pytorch.utilities.exceptions import SIGTERMException

from axformer_lightning.basics import write_json

STATE = "state.json"
RUNNING, DONE, FAILED, INTERRUPTED, HALTED = "running", "done", "failed", "interrupted", "halted"
STATES = (RUNNING, DONE, FAILED, INTERRUPTED, HALTED)


class Halted(Exception):  # noqa: N818 - nothing went wrong
    """A run stops before it is done, as its sweep asked for: the sweep decides whether it goes on."""


@dataclass(frozen=True)
class State:
    """How a run stands.

    Args:
        state: one of :data:`STATES`. A process that is killed leaves `running`.
        reason: the last line of what made it fail or stop.
        stage: that is, or was, being run.
        began: when this process began, in seconds since 1970.
        ended: when it ended; None while it runs.
    """

    state: str
    reason: str = ""
    stage: str = ""
    began: float | None = None
    ended: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long the process took, None while it runs."""
        return None if self.began is None or self.ended is None else self.ended - self.began

    def write(self, directory: Path) -> None:
        """Replace the state that is in a directory."""
        write_json(directory / STATE, asdict(self))


def read_state(directory: Path) -> State | None:
    """Return what the run in a directory says of itself, None where it says nothing that can be read.

    Example:
        >>> import tempfile
        >>> directory = Path(tempfile.mkdtemp())
        >>> State("failed", "ValueError: no").write(directory)
        >>> read_state(directory).reason
        'ValueError: no'
    """
    try:
        state = State(**json.loads((directory / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return state if state.state in STATES else None


@contextmanager
def telling(directory: Path) -> Iterator[Callable[[str], None]]:
    """Keep `state.json` true while the block runs; yield what tells it of a new stage.

    Args:
        directory: of the run, which this process holds for itself.

    Example:
        >>> import tempfile
        >>> directory = Path(tempfile.mkdtemp())
        >>> with telling(directory) as tell:
        ...     tell("finetune")
        ...     read_state(directory).stage
        'finetune'
        >>> read_state(directory).state
        'done'
    """
    began, now = time.time(), ""

    def tell(stage: str) -> None:
        nonlocal now
        now = stage
        State(RUNNING, "", stage, began).write(directory)

    def end(state: str, reason: str = "") -> None:
        State(state, reason, now, began, time.time()).write(directory)

    tell("")
    try:
        yield tell
    except Halted as halt:
        end(HALTED, str(halt))
        raise
    except BaseException as error:
        signum = signal_of(error)
        if signum is None:
            end(FAILED, last_line("".join(traceback.format_exception_only(error))))
        else:
            end(INTERRUPTED, "Stopped by SIGTERM." if signum == signal.SIGTERM else "Stopped by the keyboard.")
        raise
    end(DONE)


def signal_of(error: BaseException) -> int | None:
    """Return the signal that what is raised comes of; None where it comes of none, as where code of the user's exits.

    Example:
        >>> signal_of(KeyboardInterrupt()) == signal.SIGINT, signal_of(SystemExit(3))
        (True, None)
    """
    if isinstance(error, SIGTERMException):
        return signal.SIGTERM
    cause = error.__context__ if isinstance(error, SystemExit) else error  # Lightning exits where Ctrl-C is pressed
    return signal.SIGINT if isinstance(cause, KeyboardInterrupt) else None


def last_line(text: str) -> str:
    r"""Return the last line of a text that says anything: no remark in brackets, as train.py makes after the reason.

    Example:
        >>> last_line("Traceback\nValueError: no\n(HYDRA_FULL_ERROR=1 shows where this was raised.)\n\n")
        'ValueError: no'
    """
    lines = map(str.strip, reversed(text.splitlines()))
    return next((line for line in lines if line and not line.startswith("(")), "")


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise `SIGTERMException` in the block, so that it is cleaned up; handlers of others stay."""

    def stop(*_: object) -> None:
        raise SIGTERMException(os.getpid())

    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
