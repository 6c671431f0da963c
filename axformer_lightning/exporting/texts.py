"""From texts to what a model says of them, with the tokenizer that its file holds; in batches."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from reprlib import repr as short
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from axformer_lightning.artifacts import load_pretrained
from axformer_lightning.exporting.export import described, read_exported, tokenizer_in
from axformer_lightning.exporting.formats import Arrays, Exported

Sample = Mapping[str, str]  # text and perhaps text_pair, or question and context
FIRST, SECOND = ("text", "question"), ("text_pair", "context")
STRIDE, LONGEST_ANSWER = 128, 30


class LineOfFile(dict[str, str]):
    """A sample that errors can find: no key of its own says where it stands, as the keys are the user's.

    Args:
        sample: the texts.
        where: the line and the file, in words.

    Example:
        >>> line = LineOfFile({"text": "So it did."}, "in line 2 of 'texts'")
        >>> line, line.where
        ({'text': 'So it did.'}, "in line 2 of 'texts'")
    """

    def __init__(self, sample: Mapping[str, str], where: str) -> None:
        super().__init__(sample)
        self.where = where


def open_model(path: str | Path, threads: int | None = None) -> Exported:
    """Return the model of an artifact's directory or of an exported file, ready to be run.

    Raises:
        FileNotFoundError: if there is neither.
        ValueError: if it cannot be read.
    """
    directory = Path(path)
    if not directory.exists():
        raise FileNotFoundError(
            f"Expected the directory of an artifact or an exported file, got {str(path)!r}, which does not exist. Look"
            " for a slip in its name."
        )
    if not directory.is_dir():
        return read_exported(directory, threads=threads)
    model = load_pretrained(directory)
    model.config.return_dict = True  # outputs are known by their names
    if threads is not None:
        torch.set_num_threads(threads)
    tokenizer = tokenizer_in(directory)
    _, notes = described(model, model, (), tokenizer)
    return Exported(notes, lambda arrays: _run(model, arrays, notes.outputs))


def _run(model: PreTrainedModel, arrays: Arrays, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        given = model(**{name: torch.from_numpy(value) for name, value in arrays.items()})
    return {name: given[name].float().numpy() for name in outputs}


class Predictor:
    """Says what a model makes of texts.

    Args:
        exported: the model, with a tokenizer among its notes.
        truncate: whether texts and questions that are too long are cut; otherwise they are refused.

    Raises:
        ValueError: if the model has no tokenizer or neither labels nor spans to give, or labels of the same name.
    """

    def __init__(self, exported: Exported, *, truncate: bool = False) -> None:
        from tokenizers import Tokenizer

        notes = self.notes = exported.notes
        if not notes.tokenizer:
            raise ValueError(
                "Expected a model with its tokenizer, got one without. Save it with `save_pretrained(model, directory,"
                " tokenizer=tokenizer)`, or pass `tokenizer=` to `export_model`."
            )
        if not {"logits", "start_logits"} & {*notes.outputs}:
            raise ValueError(
                f"Expected a model for classification, regression or answers, got a {notes.architecture} that gives"
                f" {[*notes.outputs]}. Run it yourself: `read_exported(path)(arrays)`."
            )
        if "logits" in notes.outputs and len({*notes.labels}) < len(notes.labels):  # by which probabilities are named
            raise ValueError(
                f"Expected labels that differ, got {[*notes.labels]}. Name them in `model.config.id2label`, and save or"
                " export the model again."
            )
        self.exported, self.truncate = exported, truncate
        self.finds_spans = "start_logits" in notes.outputs
        self.tokenizer = Tokenizer.from_str(notes.tokenizer)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        if self.finds_spans:
            self.counts = Tokenizer.from_str(self.tokenizer.to_str())  # cuts nothing
            limit = min(notes.max_tokens, 384)
            self.limit, stride = limit, min(STRIDE, limit // 4)
            self.longest_question = limit - self.tokenizer.num_special_tokens_to_add(is_pair=True) - stride - 1
            self.tokenizer.enable_truncation(limit, stride=stride, strategy="only_second")
        elif truncate:
            self.tokenizer.enable_truncation(notes.max_tokens)

    def __call__(self, samples: Iterable[Sample], batch_size: int = 32) -> Iterator[dict[str, Any]]:
        """Yield what the model says of each sample: label and probabilities, a value, or an answer.

        Args:
            samples: texts.
            batch_size: how many of them are run at once, or how many windows of a context.

        Raises:
            ValueError: if a sample lacks its texts, or is longer than the model has positions for, or its question is
                longer than leaves room to move a window over a context that does not fit beside it; or if the model
                says what is no number.
        """
        batch: list[Sample] = []
        for sample in samples:
            batch.append(sample)
            if len(batch) == batch_size:
                yield from self._of_batch(batch, batch_size)
                batch = []
        if batch:
            yield from self._of_batch(batch, batch_size)

    def _of_batch(self, samples: list[Sample], batch_size: int) -> list[dict[str, Any]]:
        encoded = [self._encode(sample) for sample in samples]
        if self.finds_spans:
            return [self._answer(sample, one, batch_size) for sample, one in zip(samples, encoded, strict=True)]
        (logits_NC,) = self._outputs(encoded, "logits")
        if logits_NC.ndim != 2:
            raise ValueError(
                f"Expected one row of logits for each text, got the shape {logits_NC.shape} from a"
                f" {self.notes.architecture}. Run it yourself: `read_exported(path)(arrays)`."
            )
        if self.notes.multi_label:
            shares_NC = 1 / (1 + np.exp(-logits_NC))
            named = [dict(zip(self.notes.labels, share_C.tolist(), strict=True)) for share_C in shares_NC]
            return [{"labels": [n for n, share in one.items() if share > 0.5], "probabilities": one} for one in named]
        if len(self.notes.labels) == 1:
            return [{"value": float(value)} for value in logits_NC[:, 0]]
        if self.notes.regression:
            return [{"values": dict(zip(self.notes.labels, row_C.tolist(), strict=True))} for row_C in logits_NC]
        odds_NC = np.exp(logits_NC - logits_NC.max(1, keepdims=True))
        shares_NC = odds_NC / odds_NC.sum(1, keepdims=True)
        return [
            {
                "label": self.notes.labels[int(share_C.argmax())],
                "probabilities": dict(zip(self.notes.labels, share_C.tolist(), strict=True)),
            }
            for share_C in shares_NC
        ]

    def _encode(self, sample: Sample) -> Any:
        first, second = (next((sample[name] for name in names if name in sample), None) for names in (FIRST, SECOND))
        where = f" {sample.where}" if isinstance(sample, LineOfFile) else ""
        if not isinstance(first, str) or not isinstance(second, str | None) or (self.finds_spans and second is None):
            wanted = "'question' and 'context'" if self.finds_spans else "'text', and perhaps 'text_pair'"
            raise ValueError(f"Expected a sample with {wanted}, all of them texts{where}, got {short(dict(sample))}.")
        for text in (first, second or ""):
            if any("\ud800" <= char <= "\udfff" for char in text):  # of bytes that are not UTF-8, or of such JSON
                raise ValueError(f"Expected a text of whole characters{where}, got {text[:60]!r}. Write it in UTF-8.")
        if self.finds_spans:  # at longer ones the tokenizer panics, unless it has nothing to cut
            tokens = self._count(first)
            if tokens > self.longest_question and len(self.counts.encode(first, second).ids) > self.limit:
                if not self.truncate:
                    raise ValueError(
                        f"Expected a question of at most {self.longest_question} tokens next to a long context{where},"
                        f" got {tokens}. Shorten it, or have it cut (`--truncate`, `truncate=True`)."
                    )
                first = self._begin(first)
        encoded = self.tokenizer.encode(first, second)
        if len(encoded.ids) > self.notes.max_tokens:
            raise ValueError(
                f"Expected at most {self.notes.max_tokens} tokens{where}, as many as the model has positions for, got"
                f" {len(encoded.ids)}. Shorten the text, or have it cut (`--truncate`, `truncate=True`)."
            )
        return encoded

    def _count(self, question: str) -> int:
        return len(self.counts.encode(question, add_special_tokens=False).ids)

    def _begin(self, question: str) -> str:
        """Return as much of the beginning of a question as leaves room for windows; half a word may be more tokens."""
        ends = [end for _, end in self.counts.encode(question, add_special_tokens=False).offsets]
        parts = (question[:end] for end in reversed(ends[: self.longest_question]))
        return next((part for part in parts if self._count(part) <= self.longest_question), "")

    def _outputs(self, encoded: list[Any], *names: str) -> list[np.ndarray]:
        given = self.exported(self._arrays(encoded))
        outputs = [given[name].astype(np.float64) for name in names]
        if not all(np.isfinite(output).all() for output in outputs):  # JSON has no word for it
            raise ValueError(
                f"Expected finite numbers, got others among the {' and '.join(names)} of a {self.notes.architecture}."
                " It has diverged: train it again."
            )
        return outputs

    def _arrays(self, encoded: list[Any]) -> dict[str, np.ndarray]:
        longest = max(len(one.ids) for one in encoded)
        arrays = {"input_ids": np.full((len(encoded), longest), self.notes.pad_token_id, dtype=np.int64)}
        arrays |= {name: np.zeros_like(arrays["input_ids"]) for name in ("attention_mask", "token_type_ids")}
        for row, one in enumerate(encoded):
            arrays["input_ids"][row, : len(one.ids)] = one.ids
            arrays["attention_mask"][row, : len(one.ids)] = 1
            arrays["token_type_ids"][row, : len(one.ids)] = one.type_ids
        return arrays

    def _answer(self, sample: Sample, encoded: Any, batch_size: int) -> dict[str, Any]:
        best: tuple[float, int, int] = (-np.inf, 0, 0)
        for window, start_T, end_T in self._windows([encoded, *encoded.overflowing], batch_size):
            places = [place for place, part in enumerate(window.sequence_ids) if part == 1]
            if not places:
                continue
            inside = slice(places[0], places[-1] + 1)
            sums_SE = start_T[inside, None] + end_T[None, inside]
            allowed_SE = np.triu(np.ones_like(sums_SE)) - np.triu(np.ones_like(sums_SE), LONGEST_ANSWER)
            sums_SE = np.where(allowed_SE > 0, sums_SE, -np.inf)
            start, end = np.unravel_index(sums_SE.argmax(), sums_SE.shape)
            chars = window.offsets[places[start]][0], window.offsets[places[end]][1]
            best = max(best, (float(sums_SE[start, end]), *chars))
        score, first, last = best
        found = next(sample[name] for name in SECOND if name in sample)[first:last]
        answer = found.strip()  # many tokenizers count the blank before a word to it
        first += len(found) - len(found.lstrip())
        return {"answer": answer, "start": first, "end": first + len(answer), "score": score if last else None}

    def _windows(self, windows: list[Any], batch_size: int) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
        """Yield windows with what the model says of the start and the end of an answer."""
        for i in range(0, len(windows), batch_size):
            some = windows[i : i + batch_size]
            yield from zip(some, *self._outputs(some, "start_logits", "end_logits"), strict=True)
