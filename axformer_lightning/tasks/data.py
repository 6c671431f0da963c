"""Rows as batches: training, search and dev set of one run."""

from typing import Any

import lightning as L
import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase


def split_off(rows: Dataset, part: float | int, seed: int) -> tuple[Dataset, Dataset]:
    """Split rows in two, stratified by label, the same for the same seed.

    Args:
        rows: with a column `label`.
        part: size of the second part, as a share or as a number of rows.
        seed: of the split.

    Raises:
        ValueError: if ``part`` leaves nothing on one side, or no row of some class.
    """
    size = part * len(rows) if isinstance(part, float) else part
    if not 1 <= size < len(rows):
        raise ValueError(
            f"Expected a search set of 1 to {len(rows) - 1} of {len(rows)} samples, got {part!r}: set"
            " `data.search_fraction` between 0 and 1."
        )
    try:
        parts = rows.train_test_split(test_size=part, seed=seed, stratify_by_column="label")
    except ValueError as error:
        raise ValueError(
            f"Expected enough samples of every class to split off {part!r} of {len(rows)}: {error} Raise"
            " `data.search_fraction` or `data.max_search_samples`."
        ) from error
    return parts["train"], parts["test"]


class TextData(L.LightningDataModule):
    """Tokenized batches: `fit` trains on the training set and validates on the search set, `test` is the dev set.

    Args:
        train: rows to train on, without the search set.
        search: rows that decide.
        dev: rows for the report.
        tokenizer: of the model.
        batch_size: samples of a batch.
        max_length: tokens after which a sample is cut off.
        seed: of the order of training samples.
    """

    def __init__(
        self,
        train: Dataset,
        search: Dataset,
        dev: Dataset,
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
        self.collate = DataCollatorWithPadding(tokenizer)
        self.train_rows, self.search_rows, self.dev_rows = (
            _tokenized(rows, tokenizer, max_length) for rows in (train, search, dev)
        )
        self.train_on_all = False
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training set in a new seeded order each epoch, with the search set if ``train_on_all``."""
        rows = concatenate_datasets([self.train_rows, self.search_rows]) if self.train_on_all else self.train_rows
        order = torch.Generator().manual_seed(self.seed)
        return self._loader(rows, shuffle=True, generator=order)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the search set."""
        return self._loader(self.search_rows)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the dev set."""
        return self._loader(self.dev_rows)

    def _loader(self, rows: Dataset, **options: Any) -> DataLoader[Any]:
        return DataLoader(rows, self.batch_size, collate_fn=self.collate, **options)


def _tokenized(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    texts = [rows[column][:] for column in ("text_a", "text_b") if column in rows.column_names]
    encoded = tokenizer(*texts, truncation=True, max_length=max_length)
    return Dataset.from_dict({**encoded, "labels": rows["label"][:]})
