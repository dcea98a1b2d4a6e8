"""Rows of a CSV file: numbers, and a label in the last column."""

import csv
from typing import Any

import torch

from datamodules.batches import BatchedDataModule, BatchedDataset


class Data(BatchedDataModule):
    """A fifth of the rows is held out for validation, a fifth for the test; features are standardised.

    Args:
        file: the table; its first line names the columns.
        options: as in BatchedDataModule.
    """

    def __init__(self, file: str = "made_up/table.csv", **options: Any) -> None:
        super().__init__(**options)
        with open(file, newline="", encoding="utf-8") as lines:
            header, *rows = csv.reader(lines)
        self.feature_names, self.class_names = header[:-1], sorted({row[-1] for row in rows})
        x = torch.tensor([[float(cell) for cell in row[:-1]] for row in rows])
        self.target = torch.tensor([self.class_names.index(row[-1]) for row in rows])
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.seed))
        test, val, train = order.tensor_split([len(rows) // 5, len(rows) // 5 * 2])
        self.rows = {"train": train, "val": val, "test": test, "predict": test}
        self.x = (x - x[train].mean(dim=0)) / x[train].std(dim=0)

    def dataset(self, split: str) -> BatchedDataset:
        """The samples of a split."""
        rows = self.rows[split]
        return BatchedDataset(lambda batch: self.x[rows[batch.indices]], self.target[rows])
