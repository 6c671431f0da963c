"""Questions as batches of windows: training, search and dev set of one run."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from transformers import PreTrainedTokenizerBase

from axformer_lightning.tasks.squad.rows import align_answers
from axformer_lightning.tasks.squad.windows import OUTSIDE, make_windows
from axformer_lightning.tasks.task_data import TaskData


class Question(NamedTuple):
    """The parts of a question that are needed to answer it and to judge the answer.

    Args:
        id: as in the official file.
        context: the text that contains the answers.
        answers: the lists `text` and `answer_start`.
    """

    id: str
    context: str
    answers: dict[str, list[Any]]


class QuestionData(TaskData):
    """Batches of windows; outside training each holds whole questions, with the windows of each next to each other.

    Args:
        train: rows to train on, without the search set; like all rows, from `read_squad` or from the hub.
        search: rows that decide.
        dev: rows for the report, by the suffix of their metrics' names; the first are the test set.
        tokenizer: the model's tokenizer, a fast one.
        batch_size: windows in a batch. A question with more windows is a batch of its own.
        max_length: tokens of a window.
        doc_stride: tokens of the context that a window repeats from the one before.
        seed: seed of the order of training windows.

    Attributes:
        questions: questions of the search and the dev sets; the `sample_ids` of a batch are indices into it.

    Raises:
        ValueError: if a setting is too small, or the tokenizer has no pad token or gives no offsets.
    """

    def __init__(
        self,
        train: Dataset,
        search: Dataset,
        dev: Mapping[str, Dataset],
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int = 32,
        max_length: int = 384,
        doc_stride: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        if doc_stride < 0:
            raise ValueError(f"Expected `data.doc_stride` to be at least 0, got {doc_stride}.")
        if tokenizer.pad_token_id is None:
            raise ValueError(
                f"Expected a tokenizer with a pad token, got {type(tokenizer).__name__} without one: set"
                " `tokenizer.pad_token` and save the tokenizer."
            )
        self.fill = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        self.questions: list[Question] = []
        self.dev_rows = {}
        make = partial(make_windows, tokenizer=tokenizer, max_length=max_length, doc_stride=doc_stride)
        self.search_rows = self._evaluated(align_answers(search, drop=True), make)
        for suffix, rows in dev.items():
            self.dev_rows[suffix] = self._evaluated(align_answers(rows, drop=False), make)
        # Training questions get ids of their own, to group losses by; training needs no table of them.
        self.train_rows = make(align_answers(train, drop=True), first_id=len(self.questions))

    def in_order(self, rows: Dataset) -> DataLoader[Any]:
        """Return batches of whole questions."""
        return DataLoader(_WholeQuestions(rows, self.batch_size), batch_size=None, collate_fn=self.collate)

    def collate(self, windows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch of int64 tensors, padded on the right to its longest window."""
        batch = {}
        for name in windows[0]:
            values = [torch.tensor(window[name], dtype=torch.long) for window in windows]
            fill = OUTSIDE if name == "offsets" else self.fill.get(name, 0)
            batch[name] = pad_sequence(values, True, fill) if values[0].dim() else torch.stack(values)
        return batch

    def _evaluated(self, rows: Dataset, make: Callable[..., Dataset]) -> Dataset:
        windows = make(rows, first_id=len(self.questions))
        columns = zip(rows["id"][:], rows["context"][:], rows["answers"][:], strict=True)
        self.questions += [Question(*column) for column in columns]
        return windows


class _WholeQuestions(TorchDataset[list[dict[str, Any]]]):
    """Lists of windows, each of whole questions.

    Items are batches: Lightning can shard them over processes, which it cannot do with a custom batch sampler.
    """

    def __init__(self, windows: Dataset, batch_size: int) -> None:
        self.windows = windows
        self.batches: list[list[int]] = []
        for _, group in groupby(enumerate(windows["sample_ids"]), key=lambda pair: pair[1]):
            question = [window for window, _ in group]
            if not self.batches or len(self.batches[-1]) + len(question) > batch_size:
                self.batches.append([])
            self.batches[-1] += question

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        windows: list[dict[str, Any]] = self.windows.__getitems__(self.batches[index])
        return windows
