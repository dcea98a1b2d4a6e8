"""The data of the benchmarks, and training loops without Lightning: dense (the article's) and sparse."""

import time
from collections.abc import Iterator
from functools import cache, partial
from pydoc import locate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from scipy.sparse import csr_matrix
from torch import Tensor

from benchmarks.measure import ROOT
from datamodules.batches import BatchedDataModule, BatchedDataset
from datamodules.sampler import ResumableBatchSampler
from datamodules.text.sparse_rows import SparseRows
from examples.from_scratch import train

if TYPE_CHECKING:
    from datamodules.text.clinc150 import CLINC150DataModule

CONFIG = ROOT / "configs/clinc150.yaml"


@cache
def config() -> dict[str, Any]:
    """The content of configs/clinc150.yaml; read when first needed, because that file may be deleted."""
    return yaml.safe_load(CONFIG.read_text(encoding="utf-8"))


def model_options() -> dict[str, Any]:
    """The arguments that configs/clinc150.yaml gives SoftmaxRegression: lr, l2 and lr_scheduler."""
    options = config()["model"]["init_args"]
    scheduler_class: Any = locate(options["lr_scheduler"]["class_path"])
    return options | {"lr_scheduler": partial(scheduler_class, **options["lr_scheduler"]["init_args"])}


def clinc150() -> "CLINC150DataModule":
    """CLINC150 as configs/clinc150.yaml has it, vectorized already; training rows with its feature dropout."""
    from datamodules.text.clinc150 import CLINC150DataModule
    from datamodules.text.features import Ngrams

    options = config()["data"]["init_args"]
    data = CLINC150DataModule(**options | {"words": Ngrams(**options["words"])})
    data.setup("fit")
    return data


class SyntheticData(BatchedDataModule):
    """Random sparse training rows; every feature is equally likely, the worst case for a processor's caches."""

    def __init__(
        self, num_samples: int, num_features: int, num_classes: int, batch_size: int, non_zeros: int = 14
    ) -> None:
        super().__init__(batch_size, seed=0)
        self.class_names = [str(number) for number in range(num_classes)]
        random = np.random.default_rng(0)
        columns = random.integers(num_features, size=num_samples * non_zeros, dtype=np.int32)
        values = np.full(num_samples * non_zeros, non_zeros**-0.5, dtype=np.float32)  # rows of norm 1, as TF-IDF has
        row_starts = np.arange(0, num_samples * non_zeros + 1, non_zeros)
        matrix = csr_matrix((values, columns, row_starts), shape=(num_samples, num_features))
        target = torch.from_numpy(random.integers(num_classes, size=num_samples))
        self._dataset = BatchedDataset(SparseRows(matrix).gather, target)

    def dataset(self, split: str) -> BatchedDataset:
        """The same samples for every split."""
        return self._dataset


def dense_epoch(X: Tensor, y: Tensor, num_classes: int, batch_size: int, lr: float, l2: float) -> tuple[float, float]:
    """One epoch of the article's loop on dense rows X (N, D) of classes y (N,).

    Returns:
        Seconds per step, and seconds of the epoch including its shuffle. Both include the mean |W| and |gradient| that
        `train` records after each step, 3 % of a step.
    """
    times: list[float] = []

    def shuffled_batches() -> Iterator[tuple[Tensor, Tensor]]:
        times.append(time.perf_counter())  # `train` asks for the first batch when W is initialized
        order = torch.randperm(len(y))
        X_shuffled, y_shuffled = X[order], y[order]
        times.append(time.perf_counter())
        yield from zip(X_shuffled.split(batch_size), y_shuffled.split(batch_size), strict=True)

    num_steps = sum(1 for _ in train(shuffled_batches(), X.shape[1], num_classes, lr, l2, seed=0))
    start, shuffled, end = *times, time.perf_counter()
    return (end - shuffled) / num_steps, end - start


class BareLoop:
    """The arithmetic of SoftmaxRegression on sparse rows, without anything around it.

    Args:
        num_features: D.
        num_classes: K.
        lazy: represent W as scale · weight, as SoftmaxRegression does, so that L2 shrinks W by one multiplication;
            otherwise shrink all of W at every step.
        device: of W and b.
    """

    def __init__(self, num_features: int, num_classes: int, lazy: bool = True, device: str = "cpu") -> None:
        self.weight = torch.randn(num_features, num_classes, device=device).mul_(0.01).requires_grad_()
        self.b = torch.zeros(num_classes, device=device, requires_grad=True)
        self.lazy, self.scale = lazy, 1.0  # a few epochs don't make float32 underflow, so scale is never folded back

    def dense(self) -> Tensor:
        """W, (D, K)."""
        return self.weight.detach() * self.scale

    def step(self, x: Tensor, y: Tensor, lr: float, l2: float) -> None:
        """Forward, loss, backward, update, zero; x is (N, D) sparse CSR, y (N,)."""
        weight, b, shrink = self.weight, self.b, 1 - 2 * lr * l2
        product = torch.nn.functional.embedding_bag(
            x.col_indices(),
            weight,
            x.crow_indices(),
            per_sample_weights=x.values(),
            mode="sum",
            sparse=True,
            include_last_offset=True,
        )
        log_proba = torch.log_softmax(torch.add(b, product, alpha=self.scale), dim=1)
        loss = -log_proba[torch.arange(len(y), device=y.device), y].mean()
        loss.backward()
        assert weight.grad is not None and b.grad is not None
        with torch.no_grad():
            if self.lazy:
                before, self.scale = self.scale, self.scale * shrink
                weight.sub_(weight.grad, alpha=lr / (before * self.scale))  # unlike lr * grad, copies nothing
            else:
                weight *= shrink
                weight.sub_(weight.grad, alpha=lr)
            b.sub_(b.grad, alpha=lr)
        weight.grad = b.grad = None

    def epoch(self, dataset: BatchedDataset, sampler: ResumableBatchSampler, epoch: int, lr: float, l2: float) -> float:
        """Train on every batch once; returns seconds per step, gathering the batch included."""
        start = time.perf_counter()
        sampler.set_epoch(epoch)
        for indices in sampler:
            x, y, _ = dataset[indices]
            self.step(x, y, lr, l2)
        return (time.perf_counter() - start) / len(sampler)
