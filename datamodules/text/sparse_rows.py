"""From scikit-learn's CSR matrix to a batch, without ever being dense."""

import warnings
from typing import Any

import torch
from scipy.sparse import csr_matrix, issparse
from torch import Tensor

from datamodules.sampler import BatchIndices, generator

# A CSR tensor carries a batch; nothing beta is done with it.
warnings.filterwarnings("ignore", ".*Sparse CSR tensor support is in beta.*")


class SparseRows:
    """Gathers rows of a CSR matrix.

    Args:
        matrix: (N, D) scipy CSR; or, without dropout, what gives its rows so, in float32, by an array of indices.
        dropout: share of each row's non-zeros to leave out, in [0, 1), drawn anew from (seed, epoch); the others are
            divided by 1 − dropout. For training only (feature dropout: Wager, Wang and Liang 2013,
            https://arxiv.org/abs/1307.1493).
        seed: of the dropout.
    """

    def __init__(self, matrix: Any, dropout: float = 0.0, seed: int = 0) -> None:
        self.matrix = matrix.astype("float32", copy=False) if issparse(matrix) else matrix
        self.dropout, self.seed = dropout, seed
        self._dropped_out: tuple[int, Any] | None = None  # an epoch, and the matrix with that epoch's dropout
        self._prefetched: tuple[int, Tensor, Any] | None = None  # an epoch, indices, and the rows at these indices
        self._offset = 0  # how many of the prefetched rows have been returned

    def gather(self, batch: BatchIndices) -> Tensor:
        """The rows of a batch, as a sparse CSR tensor (n, D)."""
        # Indexing scattered rows is bound by cache misses. Index those of 16 batches with one scipy call, then slice.
        if batch.prefetch is not None:
            self._prefetched = batch.epoch, batch.prefetch, self._matrix_for_epoch(batch.epoch)[batch.prefetch.numpy()]
            self._offset = 0
        if self._prefetched is not None:
            epoch, indices, matrix = self._prefetched
            start, end = self._offset, self._offset + len(batch.indices)
            if epoch == batch.epoch and torch.equal(indices[start:end], batch.indices):
                self._offset = end
                return as_tensor(matrix, start, end)
        # Nothing was announced, or other indices, as in the worker processes of a loader, which share the batches.
        return as_tensor(self._matrix_for_epoch(batch.epoch)[batch.indices.numpy()])

    def _matrix_for_epoch(self, epoch: int) -> Any:
        """The matrix with this epoch's dropout applied."""
        if self.dropout == 0:
            return self.matrix
        if self._dropped_out is None or self._dropped_out[0] != epoch:
            # Drawn for all rows at once, so that the result depends neither on the batch nor on the process.
            draws = torch.rand(self.matrix.nnz, generator=generator(self.seed, epoch, stream=1))
            kept = (draws >= self.dropout).nonzero().squeeze(1).numpy()
            values = self.matrix.data[kept] / (1 - self.dropout)
            row_starts = kept.searchsorted(self.matrix.indptr)
            matrix = csr_matrix((values, self.matrix.indices[kept], row_starts), shape=self.matrix.shape)
            self._dropped_out = epoch, matrix
        return self._dropped_out[1]


def as_tensor(matrix: Any, start: int = 0, end: int | None = None) -> Tensor:
    """Rows start to end of a CSR matrix, as a CSR tensor that shares its memory."""
    end = matrix.shape[0] if end is None else end
    first, last = matrix.indptr[start], matrix.indptr[end]
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr[start : end + 1] - first),
        torch.from_numpy(matrix.indices[first:last]),
        torch.from_numpy(matrix.data[first:last]),
        size=(end - start, matrix.shape[1]),
        check_invariants=False,
    )
