"""A search on disk, a line per trial, so that one that was killed goes on where it was.

The first line holds a fingerprint of everything that the trials depend on. A journal with another one is not read, so
leaving an old journal behind is safe.
"""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor

from axformer_lightning.anatomy import Candidate
from axformer_lightning.basics import digest_of, write_atomically
from axformer_lightning.plan import Plan
from axformer_lightning.replay.measuring import Score
from axformer_lightning.replay.ranks import Ranks
from axformer_lightning.search.greedy import Trial
from axformer_lightning.search.round import Round

logger = logging.getLogger(__name__)

FORMAT = "axformer-search 1"


@dataclass(frozen=True)
class Entry:
    """One trial, and the work of the search up to and with it."""

    kind: str
    layer: int
    index: int | None
    loss: float | None
    num_not_worse: int
    samples_seen: int
    metric: float | None
    accepted: bool
    layer_tokens: float
    seconds: float

    def is_of(self, candidate: Candidate) -> bool:
        """Tell whether this is the trial of ``candidate``."""
        return (self.kind, self.layer, self.index) == (candidate.kind, candidate.layer, candidate.index)

    def score(self) -> Score:
        """Return what was measured."""
        return Score(self.loss, self.num_not_worse, self.samples_seen, self.metric)


class Journal:
    """The trials of one search: those of killed processes are handed out again, new ones are added.

    Of several processes each has a journal of its own, as scores are the same in all. They go on from the last trial
    that all have.

    Args:
        path: a file that is made, or taken over where its fingerprint is the same; its directory is made. Where it
            cannot be written, a warning is logged, and there is no journal.
        fingerprint: tells this search from all others.
        ranks: the processes that share the search.
        began: when this process began to search, as `time.perf_counter()` counts.

    Attributes:
        seconds_before: how long the processes that were killed had searched.

    Raises:
        ValueError: if a line that is not the last cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], fingerprint: str, ranks: Ranks, began: float) -> None:
        self.path = own_path(path, ranks)
        header = json.dumps({"format": FORMAT, "fingerprint": fingerprint})
        self.entries = _read(self.path, header)
        del self.entries[int(min(count for (count,) in ranks.gather([len(self.entries)]))) :]
        self.num_told = 0
        self._file: TextIO | None = None
        with self._tolerant():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Written anew, so that no half line is left for the next one to be added to.
            write_atomically(self.path, "".join(f"{line}\n" for line in (header, *map(_line, self.entries))))
            self._file = self.path.open("a", encoding="utf-8")
        self.seconds_before = self.entries[-1].seconds if self.entries else 0.0
        self._began = began

    def recorded(self, candidate: Candidate) -> tuple[Score, float] | None:
        """Return the score of the next trial and the layer tokens with it, or None if it was never finished."""
        if self.num_told >= len(self.entries):
            return None
        entry = self.entries[self.num_told]
        if not entry.is_of(candidate):
            raise ValueError(f"Expected {candidate} in {self._next_line()}, got {_line(entry)}. {ADVICE}")
        return entry.score(), entry.layer_tokens

    def write(self, trial: Trial[Candidate, Score], layer_tokens: float) -> None:
        """Take note of a decision; of a new one only after it is safe on disk.

        Args:
            trial: the decision.
            layer_tokens: work of the search so far.
        """
        self.num_told += 1
        if self.num_told <= len(self.entries):
            if self.entries[self.num_told - 1].accepted != trial.accepted:
                raise ValueError(f"Expected accepted={trial.accepted} in {self._next_line(-1)}. {ADVICE}")
            return
        score = asdict(trial.score) | {"accepted": trial.accepted}
        seconds = self.seconds_before + time.perf_counter() - self._began
        entry = Entry(**asdict(trial.candidate), **score, layer_tokens=layer_tokens, seconds=seconds)
        with self._tolerant():
            if self._file is not None:
                self._file.write(f"{_line(entry)}\n")
                self._file.flush()
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        with self._tolerant():
            if self._file is not None:
                self._file.close()

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Go on without a journal where it cannot be written: it spares work, and is no part of the result."""
        try:
            yield
        except OSError as error:
            self._file = None
            logger.warning("The search goes on without its journal, and could not be resumed: %s.", error)

    def _next_line(self, offset: int = 0) -> str:
        return f"line {self.num_told + offset + 2} of {os.fspath(self.path)!r}"


ADVICE = "Delete the file to search anew."


def own_path(path: str | os.PathLike[str], ranks: Ranks) -> Path:
    """Return where a process keeps its journal.

    Example:
        >>> own_path("search.jsonl", Ranks()).name, own_path("search.jsonl", Ranks(1, 2)).name
        ('search.jsonl', 'search.jsonl.1')
    """
    return Path(f"{os.fspath(path)}.{ranks.rank}" if ranks.rank else path)


def fingerprint(search: Round, before: Plan) -> str:
    """Return what tells a search from all others: the settings, what was cut before, and every sample's loss.

    The losses stand for weights, data, batches and precision.

    Args:
        search: the round.
        before: the plan that it starts from.
    """
    baseline, ranks = search.baseline, search.baseline.meter.ranks
    told = (before.to_json(), repr(search.settings), repr(baseline.score), repr((ranks.rank, ranks.size)))
    losses = baseline.meter.base.losses if baseline.meter.base else ()
    return digest_of([*(text.encode() for text in told), *map(_bytes, losses)]).hex()


def _bytes(loss_N: Tensor) -> bytes:
    return loss_N.double().cpu().numpy().tobytes()


def _line(entry: Entry) -> str:
    return json.dumps(asdict(entry))


def _read(path: Path, header: str) -> list[Entry]:
    """Return the trials that are wholly on disk, none if the file is of another search."""
    if not path.exists():
        return []
    first, *lines = path.read_bytes().split(b"\n")
    if first != header.encode():
        logger.warning("%s is of another search: it is started anew.", path)
        return []
    entries = []
    for number, line in enumerate(lines[:-1], 2):  # a line without its end was being written
        try:
            entries.append(_entry(json.loads(line)))
        except (ValueError, TypeError) as error:
            if number == len(lines):
                break  # the disk had the length of the last line, and not yet its bytes
            raise ValueError(
                f"Cannot read line {number} of the journal {os.fspath(path)!r}: {error}. {ADVICE}"
            ) from error
    return entries


def _entry(values: Any) -> Entry:
    return Entry(**values)
