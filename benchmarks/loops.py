"""The data that is timed, and the loops without Lightning: article 2's on dense rows, and the same on sparse rows."""

import time
from typing import Any

import numpy as np
import torch
import yaml
from scipy.sparse import csr_matrix
from torch import Tensor

from benchmarks.measure import ROOT
from datamodules import CLINC150DataModule, Ngrams
from datamodules.batches import EpochBatches, Rows, RowsDataModule
from datamodules.sparse_rows import SparseRows

CONFIG = ROOT / "configs/clinc150.yaml"
SETTINGS: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
MODEL: dict[str, Any] = SETTINGS["model"]["init_args"]  # lr, schedule, l2
FEATURE_DROPOUT: float = SETTINGS["data"]["init_args"]["feature_dropout"]


def clinc150() -> CLINC150DataModule:
    """CLINC150 with the vocabulary of the shipped config, vectorized already, without feature dropout."""
    data = CLINC150DataModule(words=Ngrams(**SETTINGS["data"]["init_args"]["words"]))
    data.rows("train")
    return data


class MadeUpRows(RowsDataModule):
    """Random sparse training rows: every feature equally likely, which is hardest on the caches."""

    def __init__(self, rows: int, features: int, classes: int, batch_size: int, non_zeros: int = 14) -> None:
        super().__init__(batch_size, seed=0)
        self.num_features, self.num_classes = features, classes
        random = np.random.default_rng(0)
        columns = random.integers(features, size=rows * non_zeros, dtype=np.int32)
        values = np.full(rows * non_zeros, non_zeros**-0.5, dtype=np.float32)  # rows of length 1, as of TF-IDF
        starts = np.arange(0, rows * non_zeros + 1, non_zeros)
        matrix = csr_matrix((values, columns, starts), shape=(rows, features))
        self._rows = Rows(SparseRows(matrix).cut, torch.from_numpy(random.integers(classes, size=rows)))

    def rows(self, split: str) -> Rows:
        """The only rows there are."""
        return self._rows


def dense_epoch(X: Tensor, y: Tensor, classes: int, batch_size: int, lr: float, l2: float) -> tuple[float, float]:
    """One epoch of article 2's loop, word for word: seconds of a step, and of the epoch with its shuffling."""
    W = (torch.randn(X.shape[1], classes) * 0.01).requires_grad_()
    b = torch.zeros(classes, requires_grad=True)
    start = time.perf_counter()
    perm = torch.randperm(len(X))
    X_shuffled, y_shuffled = X[perm], y[perm]
    shuffled = time.perf_counter()
    for first in range(0, len(X), batch_size):
        X_batch, y_batch = X_shuffled[first : first + batch_size], y_shuffled[first : first + batch_size]
        logits = X_batch @ W + b
        log_probs = torch.log_softmax(logits, dim=1)
        nll = -log_probs[torch.arange(len(X_batch)), y_batch]
        loss = nll.mean() + l2 * (W**2).sum()
        loss.backward()
        with torch.no_grad():
            W.data -= lr * W.grad  # type: ignore[operator]
            b.data -= lr * b.grad  # type: ignore[operator]
            W.grad.zero_()  # type: ignore[union-attr]
            b.grad.zero_()  # type: ignore[union-attr]
    end = time.perf_counter()
    return (end - shuffled) / -(-len(X) // batch_size), end - start


class BareLoop:
    """The same arithmetic on sparse rows, and nothing around it.

    Args:
        features: D.
        classes: K.
        lazy: keep L2's shrinking as one number until the epoch ends, as SoftmaxRegression does; else shrink all of W
            in every step.
        device: where W lives.
    """

    def __init__(self, features: int, classes: int, lazy: bool = True, device: str = "cpu") -> None:
        self.W = torch.randn(features, classes, device=device).mul_(0.01).requires_grad_()
        self.b = torch.zeros(classes, device=device, requires_grad=True)
        self.lazy, self.decay = lazy, 1.0

    def step(self, x: Tensor, y: Tensor, lr: float, l2: float) -> None:
        """Forward, loss, backward, update, zero; x is (N, D) sparse CSR."""
        W, b, shrink = self.W, self.b, 1 - 2 * lr * l2
        product = torch.nn.functional.embedding_bag(
            x.col_indices(),
            W,
            x.crow_indices(),
            per_sample_weights=x.values(),
            mode="sum",
            sparse=True,
            include_last_offset=True,
        )
        log_proba = torch.log_softmax(torch.add(b, product, alpha=self.decay), dim=1)
        loss = -log_proba[torch.arange(len(y), device=y.device), y].mean()
        loss.backward()
        with torch.no_grad():
            if self.lazy:
                before, self.decay = self.decay, self.decay * shrink
                W.sub_(W.grad, alpha=lr / (before * self.decay))  # type: ignore[arg-type] # without a copy of W.grad
            else:
                W *= shrink
                W.sub_(W.grad, alpha=lr)  # type: ignore[arg-type]
            b.sub_(b.grad, alpha=lr)  # type: ignore[arg-type]
        W.grad = b.grad = None

    def epoch(self, rows: Rows, batches: EpochBatches, number: int, lr: float, l2: float) -> float:
        """Seconds of a step, over one epoch: cutting the batch out of the matrix included."""
        start = time.perf_counter()
        batches.set_epoch(number)
        for draw in batches:
            x, y, _ = rows[draw]
            self.step(x, y, lr, l2)
        with torch.no_grad():
            self.W *= self.decay
            self.decay = 1.0
        return (time.perf_counter() - start) / len(batches)
