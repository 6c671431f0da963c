"""Training, search and dev set of one run: the base for texts and for questions."""

from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
from datasets import Dataset, concatenate_datasets
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from axformer_lightning.tasks.lengths import LengthGroups
from axformer_lightning.tasks.random_states import SeededOrder
from axformer_lightning.tasks.task import UNLABELLED

TEACHER_LOGITS = "teacher_logits"
RULED_OUT = -1e4  # what a teacher says of padding: not infinite, as infinity times zero is no number


class TaskData(L.LightningDataModule):
    """`fit` trains on the training set and validates on the search set; `test` uses the dev set.

    Subclasses set ``train_rows``, ``search_rows``, ``dev_rows`` (by the suffix of their metrics' names) and
    ``collate``, and ``copied_rows`` where they have them.

    Args:
        batch_size: samples in a batch.
        seed: seed of the order of training samples.

    Attributes:
        train_on_all: whether training uses the search set, too.
        train_on_copies: whether training uses ``copied_rows``, too.
        teacher_logits: what a teacher says of each row that is trained on, in order, so that batches hold
            `teacher_logits`; None without a teacher.

    Raises:
        ValueError: if ``batch_size`` is below 1.
    """

    train_rows: Dataset
    search_rows: Dataset
    dev_rows: dict[str, Dataset]
    copied_rows: Dataset | None = None  # for a teacher: the training set in other words, and texts without labels
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __init__(self, batch_size: int, seed: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"Expected `data.batch_size` to be at least 1, got {batch_size}.")
        self.batch_size = batch_size
        self.train_on_all = self.train_on_copies = False
        self.teacher_logits: Sequence[Tensor] | None = None
        self.order = SeededOrder(seed)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return what training uses in a new seeded order each epoch.

        Samples of a batch are about equally long: of MRPC a third of the tokens less, as nothing is padded far.
        """
        rows = concatenate_datasets(self.trained_on())
        generator = self.order.begin()
        lengths = list(map(len, rows["input_ids"][:]))
        order = LengthGroups(self.batch_size, lengths=lengths, generator=generator)
        options: Any = {"batch_size": self.batch_size, "sampler": order, "generator": generator}
        if self.teacher_logits is None:
            return DataLoader(rows, collate_fn=self.collate, **options)
        return DataLoader(_Taught(rows, self.teacher_logits), collate_fn=self._collate_taught, **options)

    def trained_on(self) -> list[Dataset]:
        """Return the parts that training uses: the training set, and where asked for the search set and copies."""
        parts = [self.train_rows]
        if self.train_on_all:
            parts.append(self.search_rows)
        if self.train_on_copies and self.copied_rows is not None:
            parts.append(self.copied_rows)
        return parts

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the search set."""
        return self.in_order(self.search_rows)

    def dev_dataloader(self, suffix: str = "") -> DataLoader[Any]:
        """Return the dev set whose metrics' names end with ``suffix``."""
        return self.in_order(self.dev_rows[suffix])

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the first dev set."""
        return self.dev_dataloader(next(iter(self.dev_rows)))

    def in_order(self, rows: Dataset) -> DataLoader[Any]:
        """Return batches of rows for evaluation, in order."""
        return DataLoader(rows, self.batch_size, collate_fn=self.collate)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the order of training samples, for a Lightning checkpoint."""
        return self.order.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the order of a Lightning checkpoint."""
        self.order.load_state_dict(state_dict)

    def _collate_taught(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        logits = pad_sequence([sample.pop(TEACHER_LOGITS) for sample in samples], True, RULED_OUT)
        return {**self.collate(samples), TEACHER_LOGITS: logits}


class _Taught(TorchDataset[dict[str, Any]]):
    """Rows with what a teacher says of them, which is the label of those that have none."""

    def __init__(self, rows: Dataset, logits: Sequence[Tensor]) -> None:
        self.rows, self.logits = rows, logits

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        rows = self.rows.__getitems__(indices)
        return [self._taught(row, self.logits[i]) for row, i in zip(rows, indices, strict=True)]

    @staticmethod
    def _taught(row: dict[str, Any], logits: Tensor) -> dict[str, Any]:
        if row.get("labels") == UNLABELLED:
            row["labels"] = int(logits.argmax()) if len(logits) > 1 else float(logits)
        return {**row, TEACHER_LOGITS: logits}
