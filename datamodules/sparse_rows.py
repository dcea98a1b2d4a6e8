"""Sparse rows, from scikit-learn's CSR matrix to a batch, without ever being dense."""

from typing import Any

import torch
from torch import Tensor

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
        self.num_features: int = matrix.shape[1]
        self.starts = torch.from_numpy(matrix.indptr).long()  # (N + 1,): row r is columns[starts[r]:starts[r + 1]]
        self.columns = torch.from_numpy(matrix.indices)
        self.values = torch.from_numpy(matrix.data).float()
        self.dropout, self.seed = dropout, seed
        self._thinned: tuple[int, tuple[Tensor, Tensor, Tensor]] | None = None  # of which epoch, and what was left

    def cut(self, draw: Draw) -> Tensor:
        """The rows of a draw, as a sparse CSR tensor (n, D), in one go."""
        starts, columns, values = self._of_epoch(draw.epoch)
        first = starts[draw.rows]
        ends = (starts[draw.rows + 1] - first).cumsum(0)  # where each row ends in the batch
        crow = torch.cat([ends.new_zeros(1), ends])
        # Position p of the batch is position p − crow[row] + first[row] of the matrix.
        shift = (first - crow[:-1]).repeat_interleave(crow.diff())
        position = torch.arange(len(shift)) + shift
        return torch.sparse_csr_tensor(
            crow.to(columns.dtype),
            columns[position],
            values[position],
            size=(len(draw.rows), self.num_features),
            check_invariants=False,
        )

    def _of_epoch(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Starts, columns and values with this epoch's dropout applied."""
        if self.dropout == 0:
            return self.starts, self.columns, self.values
        if self._thinned is None or self._thinned[0] != epoch:
            # Drawn for all rows at once, so that it matters neither which process cuts a row nor in which batch.
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch + 500_000)
            kept = torch.rand(len(self.values), generator=generator) >= self.dropout
            starts = torch.cat([self.starts.new_zeros(1), kept.cumsum(0)])[self.starts]
            self._thinned = epoch, (starts, self.columns[kept], self.values[kept] / (1 - self.dropout))
        return self._thinned[1]
