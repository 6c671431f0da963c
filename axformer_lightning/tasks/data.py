"""Rows as batches: training, search and dev set of one run."""

from collections.abc import Mapping
from typing import Any

import lightning as L
from datasets import Dataset, concatenate_datasets
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from axformer_lightning.tasks.random_states import SeededOrder


class TextData(L.LightningDataModule):
    """Tokenized batches: `fit` trains on the training set and validates on the search set, `test` is the dev set.

    Args:
        train: rows to train on, without the search set.
        search: rows that decide.
        dev: rows for the report, by what is appended to the names of their metrics.
        tokenizer: of the model.
        batch_size: samples of a batch.
        max_length: tokens after which a sample is cut off.
        seed: of the order of training samples.
    """

    def __init__(
        self,
        train: Dataset,
        search: Dataset,
        dev: Mapping[str, Dataset],
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int = 32,
        max_length: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"Expected `data.batch_size` to be at least 1, got {batch_size}.")
        self.batch_size = batch_size
        self.tokenizer, self.max_length = tokenizer, max_length
        self.collate = DataCollatorWithPadding(tokenizer)
        self.train_rows, self.search_rows = self._tokenized(train), self._tokenized(search)
        self.dev_rows = {suffix: self._tokenized(rows) for suffix, rows in dev.items()}
        self.train_on_all = False
        self.order = SeededOrder(seed)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training set in a new seeded order each epoch, with the search set if ``train_on_all``."""
        rows = concatenate_datasets([self.train_rows, self.search_rows]) if self.train_on_all else self.train_rows
        return self._loader(rows, shuffle=True, generator=self.order.begin())

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the search set."""
        return self._loader(self.search_rows)

    def dev_dataloader(self, suffix: str = "") -> DataLoader[Any]:
        """Return the dev set of which the metrics have ``suffix`` appended to their names."""
        return self._loader(self.dev_rows[suffix])

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the first dev set."""
        return self.dev_dataloader(next(iter(self.dev_rows)))

    def rows_dataloader(self, rows: Dataset) -> DataLoader[Any]:
        """Return any rows in their order, with or without labels."""
        return self._loader(self._tokenized(rows))

    def state_dict(self) -> dict[str, Any]:
        """Return what a Lightning checkpoint keeps: where the order of training samples stands."""
        return self.order.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the order of a Lightning checkpoint."""
        self.order.load_state_dict(state_dict)

    def _loader(self, rows: Dataset, **options: Any) -> DataLoader[Any]:
        return DataLoader(rows, self.batch_size, collate_fn=self.collate, **options)

    def _tokenized(self, rows: Dataset) -> Dataset:
        texts = [rows[column][:] for column in ("text_a", "text_b") if column in rows.column_names]
        encoded = self.tokenizer(*texts, truncation=True, max_length=self.max_length)
        labels = {"labels": rows["label"][:]} if "label" in rows.column_names else {}
        return Dataset.from_dict({**encoded, **labels})
