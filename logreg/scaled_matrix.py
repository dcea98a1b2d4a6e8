"""A weight matrix that L2 shrinks in one multiplication, however many rows it has."""

from typing import Any

import torch
from torch import Tensor, nn


class ScaledMatrix(nn.EmbeddingBag):
    """W of shape (D, K), stored as `scale · weight`.

    A step with an L2 penalty shrinks all of W by one factor and moves only the rows of the features in the batch. With
    the factor kept apart, such a step costs time in proportion to the batch's non-zeros, whatever D is. The same
    representation is scikit-learn's `WeightVector` (`wscale`) and that of Bottou, "Stochastic Gradient Descent Tricks"
    (2012), section 5.1.

    An `EmbeddingBag`, because the bag of a sparse row is x @ W, the sum of its features' rows of W, each times its
    value, and because DistributedDataParallel accepts sparse gradients only from embedding modules.

    Args:
        initial: (D, K), what W starts as.
    """

    FEW = 2**21  # numbers that are read in one go faster than by rows; by size alone, for a resumed run has to agree
    UNDERFLOW = 1e-3  # float32 has 7 digits; long before `scale` costs any of them it is multiplied into the rows

    def __init__(self, initial: Tensor) -> None:
        num_features, num_classes = initial.shape
        options: dict[str, Any] = {"mode": "sum", "sparse": True, "include_last_offset": True}
        super().__init__(num_features, num_classes, **options, _weight=initial)
        self.scale = 1.0
        self._row_squares: Tensor | None = None  # (D,), Σ weight² of each row when it was last measured ...
        self._changed: list[Tensor] | None = None  # ... and the rows that have changed since; None for too many to list
        self._num_changed = 0

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x @ W: (N, D), dense or sparse CSR, to (N, K)."""
        if x.layout == torch.sparse_csr:
            product = super().forward(x.col_indices(), x.crow_indices(), per_sample_weights=x.values())
        else:
            product = x @ self.weight
        return product if self.scale == 1.0 else product * self.scale

    def dense(self) -> Tensor:
        """W, (D, K)."""
        return self.weight if self.scale == 1.0 else self.weight * self.scale

    @torch.no_grad()
    def descend_(self, lr: float, l2: float) -> None:
        """W -= lr · (gradient + 2 · l2 · W), the gradient being that of the loss, which `backward` has computed."""
        gradient = self.weight.grad
        assert gradient is not None
        # The rows hold W / scale, and their gradient is `scale` times that of W: hence one division by each scale.
        before, self.scale = self.scale, self.scale * (1 - 2 * lr * l2)
        self.weight.sub_(gradient, alpha=lr / (before * self.scale))
        if self._changed is not None:
            self._num_changed += gradient._nnz() if gradient.is_sparse else len(self.weight)
            if 8 * self._num_changed > len(self.weight):  # gathering so many costs more than reading all in order
                self._changed = None
            else:
                self._changed.append(gradient._indices()[0])
        if self.scale < self.UNDERFLOW:
            self.fold_()

    @torch.no_grad()
    def fold_(self) -> None:
        """Multiply `scale` into the rows: the same W, with `scale` 1."""
        if self.scale != 1.0:
            self.weight.mul_(self.scale)
            self.scale, self._changed = 1.0, None

    @torch.no_grad()
    def squared_norm(self) -> Tensor:
        """ΣW², a scalar; of a large W reads only the rows that have changed since it was last asked for."""
        if self.weight.numel() <= self.FEW:
            numbers = self.weight.flatten()
            return numbers.dot(numbers) * self.scale**2
        if self._row_squares is None or self._changed is None or self._row_squares.device != self.weight.device:
            self._row_squares = torch.linalg.vector_norm(self.weight, dim=1).square()
        elif self._changed:
            rows = torch.cat(self._changed)
            self._row_squares[rows] = torch.linalg.vector_norm(self.weight.index_select(0, rows), dim=1).square()
        self._changed, self._num_changed = [], 0
        return self._row_squares.sum() * self.scale**2

    @torch.no_grad()
    def squared_gradient_norm(self, l2: float) -> Tensor:
        """Σ(gradient + 2 · l2 · W)², a scalar, without a second matrix of W's size."""
        gradient, weight = self.weight.grad, self.weight
        assert gradient is not None
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            weight, gradient = weight.index_select(0, gradient.indices()[0]), gradient.values()
        cross = gradient.flatten().dot(weight.flatten())  # Σ gradient of W · W: the two scales cancel
        squares = gradient.square().sum() / self.scale**2 + 4 * l2 * cross
        return squares if l2 == 0 else (squares + 4 * l2**2 * self.squared_norm()).clamp(min=0)

    def get_extra_state(self) -> Tensor:
        """`scale`, which a checkpoint keeps beside `weight`."""
        return torch.tensor(self.scale, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.scale, self._changed = float(state), None
