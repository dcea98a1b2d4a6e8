"""The rows of a configuration's own data as an estimator, which scikit-learn fits and judges by their numbers."""

import copy
from collections.abc import Callable, Sequence
from pydoc import locate
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_validate
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.batches import BatchedDataModule
from datamodules.sampler import BatchIndices
from datamodules.splits import stratified_folds
from selection.configured import LOCK, Configured, quiet
from selection.rows import replace_rows

Array = NDArray[Any]


class Fold(NamedTuple):
    """Numbers of rows, (n,), probabilities by a fit that has not seen them, (n, K), and the metrics of `validate`.

    These are without "val/", and with `nll`, the mean −log p(target), whatever the class weights.
    """

    rows: Array
    proba: Array
    metrics: dict[str, float]


class Sample(ClassifierMixin, BaseEstimator):
    """The N rows of some splits together; X is their numbers.

    Attributes:
        names, target: of each row the name and the number of its class.
        places, described: of each row the split and its number there, and its columns as the datamodule describes it.
        callbacks: of each fit.
    """

    def __init__(self, configured: Configured, *splits: str) -> None:
        self.configured, self.callbacks = configured, list[L.Callback]()
        kind: Any = locate(configured.config.data.class_path)
        if not hasattr(kind, "load_splits"):
            raise ValueError(f"expected data with a method load_splits, {kind.__name__} has none")
        self.data = data = configured.build()[1]
        loaded, self.class_names = data.splits, list(data.class_names)
        columns = zip(*(loaded[split] for split in splits), strict=True)
        self.x, self.labels = (torch.cat(c) if isinstance(c[0], Tensor) else [n for p in c for n in p] for c in columns)
        self.names = [self.class_names[n] if isinstance(n, Tensor) else n for n in self.labels]
        self.target = np.array([self.class_names.index(name) for name in self.names])
        sizes = {split: len(loaded[split][0]) for split in splits}
        self.places = [(split, row) for split, size in sizes.items() for row in range(size)]
        self.described = [row for split, size in sizes.items() for row in data.describe(range(size), split)]

    def __sklearn_clone__(self) -> "Sample":
        return copy.copy(self)

    def fit(self, rows: Array, y: Any = None) -> "Sample":
        """Rows that it does not learn from are those of the validation."""
        every = np.arange(len(self.target))
        parts = {"train": rows, "val": np.setdiff1d(every, rows), "test": every}
        splits = {name: (_take(self.x, part), _take(self.labels, part)) for name, part in parts.items()}

        def with_rows(data: Any) -> Any:
            vars(data).update({name: value for name, value in vars(self.data).items() if name not in vars(data)})
            del data.splits  # the rest is what it would read, such as the columns of a file
            return replace_rows(data, splits)

        fitted = self.configured.fit(with_rows, callbacks=self.callbacks)
        self.trainer_, self.model_, self.data_ = fitted
        self.classes_, self.rows_ = np.arange(len(self.class_names)), self.data_.dataset("test")
        return self

    def batch(self, rows: Array) -> Any:
        """Some of the rows, as the fitted data encodes them."""
        return self.rows_[BatchIndices(torch.from_numpy(rows), epoch=0)]

    def evaluate(self, how: str, rows: Array, **options: Any) -> Any:
        """The Trainer's "predict" or "validate" of some of the rows."""
        size = max(self.data_.batch_size, BatchedDataModule.eval_batch_size)
        batches: Any = [self.batch(rows[start : start + size]) for start in range(0, len(rows), size)]
        with LOCK, quiet():
            return getattr(self.trainer_, how)(self.model_, DataLoader(batches, batch_size=None), **options)

    def predict_proba(self, rows: Array) -> Array:
        proba = torch.cat(self.evaluate("predict", rows)).cpu().double().numpy()
        return proba / proba.sum(axis=1, keepdims=True)  # they sum to 1 in float32 only

    def predict(self, rows: Array) -> Array:
        return self.predict_proba(rows).argmax(axis=1)

    def judge(self, divided: Sequence[tuple[Array, Array]], after_fold: Callable[[list[Fold]], Any]) -> list[Fold]:
        """Fit on the rows of each fold to learn from, and judge those to judge by."""
        folds: list[Fold] = []

        def score(fitted: Sample, rows: Array, target: Array) -> float:
            proba, [found] = fitted.predict_proba(rows), fitted.evaluate("validate", rows, verbose=False)
            metrics = {name.removeprefix("val/"): float(value) for name, value in found.items()}
            metrics["nll"] = float(log_loss(target, proba, labels=range(proba.shape[1])))
            folds.append(Fold(rows, proba, metrics))
            after_fold(folds)
            return metrics["nll"]

        every = np.arange(len(self.target))
        cross_validate(self, every, self.target, cv=divided, scoring=score, error_score="raise")
        return folds


def cross_validated(configured: Configured, folds: int, *callbacks: L.Callback) -> tuple[Sample, list[Fold]]:
    """The training and validation rows, and fits that have not seen them, beside a progress bar."""
    sample = Sample(configured, "train", "val")
    sample.callbacks = [*callbacks]
    divided = stratified_folds(sample.names, folds, configured.config.seed_everything)
    with Progress() as bar:
        task = bar.add_task("folds", total=len(divided))
        return sample, sample.judge(divided, lambda _: bar.advance(task))


def _take(rows: Any, numbers: Array) -> Any:
    return rows[torch.from_numpy(numbers)] if isinstance(rows, Tensor) else [rows[number] for number in numbers]
