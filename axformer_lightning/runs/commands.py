"""Commands that a run shows, to be pasted into a shell."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString


def quoted(value: str) -> str:
    """Return a value as Hydra's grammar takes it, whatever characters it holds.

    Example:
        >>> print(quoted("true"), quoted("/a/b-1"), quoted("/a b/it's"))
        true /a/b-1 "/a b/it's"
    """
    if re.fullmatch("[A-Za-z0-9_/.-]+", value):
        return value
    return str(QuotedString(value, Quote.double).with_quotes())


def next_command(words: Sequence[str]) -> str:
    """Return the command that runs the same with several seeds.

    Args:
        words: the overrides of the run, without Hydra's own.

    Example:
        >>> next_command(["task=mrpc", "++seed=1", "pruning=budget", "pruning.ratios=[2,3.2]"])
        "python train.py -m seed=0,1,2 task=mrpc pruning=budget 'pruning.ratios=[2,3.2]'"
    """
    own = [word for word in words if word.lstrip("+").partition("=")[0] not in ("seed", "resume")]
    return shlex.join(["python", "train.py", "-m", "seed=0,1,2", *(own or ["pruning.tolerance=0,0.05"])])


def words_to_resume(directory: Path) -> str:
    """Return what a command is given as well to go on with the run in a directory: for the shell, and for Hydra in it.

    Example:
        >>> print(words_to_resume(Path("/a b")))
        'hydra.run.dir="/a b"' resume=true
    """
    return shlex.join([f"hydra.run.dir={quoted(str(directory))}", "resume=true"])
