"""A model with its tokenizer: from rows to what is said of them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from axformer_lightning.predict.encoding import encode, encode_windows, padded, read_tokenizer
from axformer_lightning.predict.engines import Engine, Outputs, load_engine
from axformer_lightning.predict.labels import labels_of
from axformer_lightning.predict.rows import Row, rest_of, texts_of
from axformer_lightning.predict.spans import spans_of

WINDOW, STRIDE = 384, 128  # tokens of a window of a context, and how many it repeats, as in training
CHUNK = 16  # batches that are read ahead, to put texts of about the same length together


@dataclass(frozen=True)
class Predictor:
    """Says what a model finds in texts.

    Args:
        engine: from :func:`load_engine`.
        tokenizer: that of the model.
        max_length: tokens to which longer inputs are cut; by default they are refused.
    """

    engine: Engine
    tokenizer: Tokenizer
    max_length: int | None = None

    def __call__(self, rows: Iterable[Row], batch_size: int = 32) -> Iterator[dict[str, Any]]:
        """Yield a prediction for every row, in their order.

        Args:
            rows: each with `text`, `text` and `text_pair`, or `question` and `context`; whatever else it has is put
                into its prediction.
            batch_size: rows (of contexts: windows) in a batch.

        Yields:
            `label`, `probability` and `probabilities` of a classifier, `score` of a regression, `labels` and
            `probabilities` where several labels may hold. For a question `answer`, `start` and `end` (characters of the
            context), `score` (the sum of two logits) and `no_answer_score`: how much higher no answer scores.

        Raises:
            ValueError: if a row is malformed or longer than the model can read.
        """
        if batch_size < 1:
            raise ValueError(f"Expected `batch_size` to be at least 1, got {batch_size}.")
        rows, done = iter(rows), 0
        while chunk := list(islice(rows, batch_size * CHUNK)):
            wheres = [f"row {done + i}" for i in range(1, len(chunk) + 1)]
            texts = [texts_of(row, where) for row, where in zip(chunk, wheres, strict=True)]
            questions = {"question" in row for row in chunk}
            if len(questions) > 1 or questions != {self.answers_questions}:
                raise ValueError(
                    f"Expected rows with {'`question` and `context`' if self.answers_questions else '`text`'} for this"
                    f" model, got others from row {done + 1} on."
                )
            say = self._answers if self.answers_questions else self._labels
            for row, said in zip(chunk, say(texts, wheres, batch_size), strict=True):
                yield rest_of(row) | said
            done += len(chunk)

    @property
    def answers_questions(self) -> bool:
        """Whether the model is one for questions with a context."""
        return "QuestionAnswering" in self.engine.notes.architecture

    def _labels(self, texts: Sequence[tuple[str, ...]], wheres: Sequence[str], batch_size: int) -> Iterable[Any]:
        encodings = [
            encode(self.tokenizer, each, self.engine.notes.max_tokens, self.max_length, where)
            for each, where in zip(texts, wheres, strict=True)
        ]
        return labels_of(self._run(encodings, batch_size)["logits"], self.engine.notes)

    def _answers(self, texts: Sequence[tuple[str, ...]], wheres: Sequence[str], batch_size: int) -> Iterable[Any]:
        length = min(self.max_length or WINDOW, self.engine.notes.max_tokens)
        windows = [
            encode_windows(self.tokenizer, each, length, min(STRIDE, length // 3), where)
            for each, where in zip(texts, wheres, strict=True)
        ]
        outputs = self._run([encoding for group in windows for encoding in group], batch_size)
        return spans_of(outputs["start_logits"], outputs["end_logits"], windows, [context for _, context in texts])

    def _run(self, encodings: Sequence[Encoding], batch_size: int) -> Outputs:
        """Return the logits of all; those per token are padded at the end by the least number."""
        order = sorted(range(len(encodings)), key=lambda i: len(encodings[i].ids))
        found: dict[str, list[Any]] = {}
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            inputs = padded([encodings[i] for i in batch], self.engine.notes.pad_token_id)
            outputs = self.engine.run(inputs)
            for name, logits in outputs.items():
                found.setdefault(name, [None] * len(order))
                for i, row in zip(batch, logits, strict=True):
                    found[name][i] = row
        longest = len(encodings[order[-1]].ids)
        least = float(np.finfo(np.float32).min)
        return {
            name: np.stack([_filled(row, longest, least) if name != "logits" else row for row in rows])
            for name, rows in found.items()
        }


def load_predictor(
    path: str | os.PathLike[str],
    *,
    tokenizer: str | os.PathLike[str] | None = None,
    max_length: int | None = None,
    threads: int | None = None,
) -> Predictor:
    """Load a model and its tokenizer.

    Args:
        path: a directory of :func:`save_pretrained`, or a file of :func:`export_model`.
        tokenizer: directory with the `tokenizer.json` to take instead of the model's own.
        max_length: tokens to which longer inputs are cut; by default they are refused.
        threads: how many the engine of an exported file may use.

    Raises:
        FileNotFoundError: if the model or the tokenizer that is named is missing.
        ModuleNotFoundError: if the engine is not installed.
        ValueError: if a file cannot be read, there is no tokenizer or that of another model, the model is neither a
            classifier nor answers questions, or it has fewer positions than ``max_length``.
    """
    engine = load_engine(path, threads)
    notes, source = engine.notes, os.fspath(path)
    if not any(kind in notes.architecture for kind in ("SequenceClassification", "QuestionAnswering")):
        raise ValueError(
            f"Expected a model that classifies sequences or answers questions in {source!r}, got a"
            f" {notes.architecture}. Save one with such a head."
        )
    if max_length is not None and not 3 <= max_length <= notes.max_tokens:
        raise ValueError(f"Expected `max_length` from 3 to {notes.max_tokens}, got {max_length}.")
    text = notes.tokenizer
    if tokenizer is not None:
        source = os.fspath(tokenizer)
        text = Path(tokenizer, "tokenizer.json").read_text(encoding="utf-8")
    return Predictor(engine, read_tokenizer(text, source, notes.num_tokens), max_length)


def _filled(row: Any, length: int, value: float) -> Any:
    return np.pad(row, (0, length - len(row)), constant_values=value)
