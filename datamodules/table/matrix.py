"""A matrix in memory that stays sparse."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from datamodules.batches import BatchedDataModule, BatchedDataset


class MatrixDataModule(BatchedDataModule):
    """All rows of a matrix to train on, and none to hold out.

    Args:
        x: (N, F), sparse or not.
        target: (N,) class numbers.
        class_names: K names.
        scale: divide each column by its standard deviation; nothing is subtracted, which would make it dense.
        sample_weight: (N,), of the rows in the standard deviation; None counts each once.
        feature_dropout: share of each row's non-zeros to leave out in training, anew in every epoch, in [0, 1).
        options: as in BatchedDataModule.
    """

    def __init__(
        self,
        x: Any,
        target: Any,
        class_names: Sequence[str],
        scale: bool,
        sample_weight: Any = None,
        feature_dropout: float = 0.0,
        **options: Any,
    ) -> None:
        from sklearn.preprocessing import FunctionTransformer, StandardScaler  # slow to import, so not at the top

        from datamodules.text.sparse_rows import SparseRows  # which may have been deleted with the texts

        super().__init__(**options)
        self.class_names, self.width = class_names, x.shape[1]
        self.class_counts = np.bincount(target, minlength=len(class_names)).tolist()
        x = csr_matrix(x, dtype=np.float32)
        self.scaler = FunctionTransformer()
        if scale:
            self.scaler = StandardScaler(with_mean=False).fit(x, sample_weight=sample_weight)
        gather = SparseRows(self.scaler.transform(x), feature_dropout, self.seed).gather
        self.rows = BatchedDataset(gather, torch.as_tensor(target))

    @property
    def num_features(self) -> int:
        return self.width

    def dataset(self, split: str) -> BatchedDataset:
        return self.rows

    def encode(self, x: Any) -> Tensor:
        """Rows (N, F), sparse or not, to a sparse CSR tensor (N, F)."""
        from datamodules.text.sparse_rows import as_tensor

        return as_tensor(self.scaler.transform(csr_matrix(x, dtype=np.float32)), 0, x.shape[0])
