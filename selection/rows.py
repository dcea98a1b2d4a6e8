"""Rows of a caller's own, in place of those that a datamodule reads."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse
from torch import Tensor

from datamodules.batches import BatchedDataModule, BatchedDataset
from datamodules.table.tabular import TabularDataModule

HELD = ("load_splits", "setup", "prepare_data", "_splits", "_rows", "_train_matrix", "_table")  # by a filled datamodule


class Rows(NamedTuple):
    """N rows: a list of texts, an array or a CSR matrix (N, F); class numbers (N,); K class and F feature names."""

    x: Any
    target: NDArray[Any]
    class_names: list[str]
    feature_names: list[str]


class MatrixDataModule(BatchedDataModule):
    """A matrix that stays sparse.

    Args:
        rows: with a matrix (N, F).
        scale: divide each column by its standard deviation.
        dropout: share of each row's non-zeros to leave out in training.
        options: as in BatchedDataModule.
    """

    def __init__(self, rows: Rows, scale: bool, dropout: float = 0.0, **options: Any) -> None:
        from sklearn.preprocessing import StandardScaler

        from datamodules.text.sparse_rows import SparseRows

        super().__init__(**options)
        self.class_names, self.class_counts, self._width = rows.class_names, class_counts(rows), rows.x.shape[1]
        self._scaler = StandardScaler(with_mean=False).fit(rows.x) if scale else None
        gather = SparseRows(self._scaled(rows.x), dropout, self.seed).gather
        self._rows = BatchedDataset(gather, torch.from_numpy(rows.target))

    @property
    def num_features(self) -> int:
        return self._width

    def dataset(self, split: str) -> BatchedDataset:
        return self._rows

    def encode(self, rows: Any) -> Tensor:
        """A matrix (N, F), sparse or not, to a sparse CSR tensor."""
        from datamodules.text.sparse_rows import as_tensor

        return as_tensor(self._scaled(rows), 0, rows.shape[0])

    def _scaled(self, x: Any) -> Any:
        x = csr_matrix(x, dtype=np.float32)
        return x if self._scaler is None else self._scaler.transform(x)


def fill(data: Any, rows: Rows) -> Any:
    """A datamodule with these training rows: the given one, or one of its options where the rows do not suit it.

    Texts keep the given one, and so do arrays, if it standardises columns and does no more. Any other array goes into a
    plain TabularDataModule; matrices for a model of texts, and sparse ones, into a MatrixDataModule.
    """
    is_text, names = takes_text(type(data)), rows.class_names
    options = {name: vars(data)[name] for name in ("batch_size", "seed", "stratified_batches") if name in vars(data)}
    if not isinstance(rows.x, list) and (is_text or issparse(rows.x)):
        return MatrixDataModule(rows, not is_text, getattr(data, "feature_dropout", 0.0), **options)
    data.prepare_data, data.setup = lambda: None, lambda stage: None
    if is_text:
        data.oos_label = data.oos_label if data.oos_label in names else None
        train: tuple[Any, Any] = rows.x, [names[k] for k in rows.target]
    else:
        if getattr(type(data), "transform", None) is not TabularDataModule.transform:
            data = TabularDataModule(**options)
        own = vars(data).get("class_names", names)
        data.class_names = own if sorted(own) == sorted(names) else names
        data.feature_names = rows.feature_names
        number = torch.tensor([data.class_names.index(name) for name in names])
        train = torch.from_numpy(rows.x), number[rows.target]
    none = train[0][:0], train[1][:0]
    data.load_splits = lambda: {"train": train, "val": none, "test": none}
    return data


def takes_text(data_class: Any) -> bool:
    """Whether a datamodule's rows are sentences."""
    return hasattr(data_class, "vectorize")


def class_counts(rows: Rows) -> list[int]:
    """Rows of each class."""
    return np.bincount(rows.target).tolist()


def forget(model: Any, data: Any) -> None:
    """Leave what predicting needs: no row, no Trainer, and nothing that pickle refuses."""
    model.trainer = data.trainer = model.optimizer = model.lr_scheduler = None
    model.zero_grad()
    for name in HELD:
        vars(data).pop(name, None)
