"""Sparse rows, from scikit-learn's CSR matrix to a batch, without ever being dense."""

from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.utils.data import get_worker_info

from datamodules.batches import Draw


class SparseRows:
    """The rows of a CSR matrix, cut into batches.

    Args:
        matrix: (N, D) scipy CSR.
        dropout: share of each row's non-zeros to leave out, in [0, 1), drawn anew from (seed, epoch); what stays is
            divided by 1 − dropout. For training rows only (feature dropout: Wager, Wang and Liang, NeurIPS 2013).
        seed: of the draw.
    """

    def __init__(self, matrix: Any, dropout: float = 0.0, seed: int = 0) -> None:
        self.matrix = matrix.astype("float32", copy=False)
        self.dropout, self.seed = dropout, seed
        self._thinned: tuple[int, Any] | None = None  # an epoch, and what dropout left of the matrix in it
        self._gathered: tuple[int, Tensor, Any] | None = None  # an epoch, the rows announced in it, and their matrix
        self._taken = 0  # how many of these were cut already

    def cut(self, draw: Draw) -> Tensor:
        """The rows of a draw, as a sparse CSR tensor (n, D)."""
        # Rows are scattered over memory, where each costs a wait or two. For many batches at once scipy collects them
        # in one sweep, and a batch is then a slice. Not in a worker process: most of the coming draws go to others.
        if draw.upcoming is not None and get_worker_info() is None:
            self._gathered = draw.epoch, draw.upcoming, self._of_epoch(draw.epoch)[draw.upcoming.numpy()]
            self._taken = 0
        if self._gathered is not None:
            epoch, rows, matrix = self._gathered
            first, end = self._taken, self._taken + len(draw.rows)
            if epoch == draw.epoch and torch.equal(rows[first:end], draw.rows):
                self._taken = end
                return _slice(matrix, first, end)
        # Nothing was announced, or something else.
        return _slice(self._of_epoch(draw.epoch)[draw.rows.numpy()], 0, len(draw.rows))

    def _of_epoch(self, epoch: int) -> Any:
        """The matrix with this epoch's dropout applied."""
        if self.dropout == 0:
            return self.matrix
        if self._thinned is None or self._thinned[0] != epoch:
            # Drawn for all rows at once, so that it matters neither which process cuts a row nor in which batch.
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch + 500_000)
            kept = (torch.rand(self.matrix.nnz, generator=generator) >= self.dropout).nonzero().squeeze(1).numpy()
            values = self.matrix.data[kept] / (1 - self.dropout)
            starts = kept.searchsorted(self.matrix.indptr)  # of what is kept, where each row begins
            self._thinned = epoch, csr_matrix((values, self.matrix.indices[kept], starts), shape=self.matrix.shape)
        return self._thinned[1]


def _slice(matrix: Any, first: int, end: int) -> Tensor:
    """Rows first to end of a CSR matrix as a CSR tensor that shares its memory."""
    start, stop = matrix.indptr[first], matrix.indptr[end]
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr[first : end + 1] - start),
        torch.from_numpy(matrix.indices[start:stop]),
        torch.from_numpy(matrix.data[start:stop]),
        size=(end - first, matrix.shape[1]),
        check_invariants=False,
    )
