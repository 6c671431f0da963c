"""Rows as batches of texts: training, search and dev set of one run."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from axformer_lightning.tasks.rows import text_columns
from axformer_lightning.tasks.task_data import TaskData


class TextData(TaskData):
    """Tokenized batches, padded to their longest sample.

    Args:
        train: rows to train on, without the search set.
        search: rows that decide.
        dev: rows for the report, by the suffix of their metrics' names.
        tokenizer: the model's tokenizer.
        batch_size: samples in a batch.
        max_length: tokens after which a sample is truncated.
        seed: seed of the order of training samples.
        copies: rows that training uses, too, while ``train_on_copies`` is set; None for none.

    Raises:
        ValueError: if ``batch_size`` is below 1, or ``max_length`` leaves no room for a word of each text.
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
        copies: Dataset | None = None,
    ) -> None:
        super().__init__(batch_size, seed)
        self.tokenizer, self.max_length = tokenizer, max_length
        self.collate = DataCollatorWithPadding(tokenizer)
        self.train_rows, self.search_rows = self._tokenized(train), self._tokenized(search)
        self.copied_rows = None if copies is None else self._tokenized(copies)
        self.dev_rows = {suffix: self._tokenized(rows) for suffix, rows in dev.items()}

    def rows_dataloader(self, rows: Dataset) -> DataLoader[Any]:
        """Return batches of any rows, in order, with or without labels."""
        return self.in_order(self._tokenized(rows))

    def _tokenized(self, rows: Dataset) -> Dataset:
        return Dataset.from_dict(tokenized(rows, self.tokenizer, max_length=self.max_length))


def tokenized(rows: Dataset, tokenizer: PreTrainedTokenizerBase, **options: Any) -> dict[str, list[Any]]:
    """Return texts or pairs of texts tokenized, with their labels if they have any.

    Args:
        rows: rows of a task.
        tokenizer: truncates samples that are too long.
        options: options of the tokenizer.

    Raises:
        ValueError: if `max_length` is one of them and leaves no room for a word of each text.
    """
    texts = [rows[column][:] for column in text_columns(rows)]
    # A tokenizer that has no room for its special tokens cuts nothing off, without a word.
    special = tokenizer.num_special_tokens_to_add(pair=len(texts) > 1)
    if options.get("max_length", least := special + len(texts)) < least:
        raise ValueError(
            f"Expected `data.max_length` of at least {least}, for {special} special tokens and one of each text, got"
            f" {options['max_length']}. Raise it."
        )
    labels = {"labels": rows["label"][:]} if "label" in rows.column_names else {}
    return {**tokenizer(*texts, truncation=True, **options), **labels}
