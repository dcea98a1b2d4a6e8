"""The rows of a configuration as an estimator for scikit-learn's loops, and their cross-validation."""

from collections.abc import Callable, Sequence
from copy import copy
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

from datamodules.splits import stratified_folds
from selection.configured import Configured, quiet
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
    """What a configuration trains, as a scikit-learn classifier whose X, (n,), numbers the N rows of some splits.

    Attributes:
        names, target: of each row the name and the number of its class.
        places, described: of each row the split and its number there, and its columns as the datamodule describes it.

    Raises:
        ValueError: the data cannot be given other rows.
    """

    def __init__(self, configured: Configured, *splits: str, callbacks: Sequence[L.Callback] = ()) -> None:
        self.configured, self.callbacks = configured, callbacks
        kind: Any = locate(configured.config.data.class_path)
        if not hasattr(kind, "load_splits"):
            raise ValueError(f"expected data with a method load_splits, {kind.__name__} has none")
        self.data = data = configured.build()[1]
        loaded, self.class_names = data.splits, list(data.class_names)
        self.x, self.labels = (_joined(parts) for parts in zip(*(loaded[split] for split in splits), strict=True))
        self.names = [self.class_names[n] if isinstance(n, Tensor) else n for n in self.labels]
        self.target = np.array([self.class_names.index(name) for name in self.names])
        self.places = [(split, row) for split in splits for row in range(len(loaded[split][0]))]
        self.described = [row for split in splits for row in data.describe(range(len(loaded[split][0])), split)]

    def __sklearn_clone__(self) -> "Sample":
        return copy(self)  # the rows are the same ones

    def fit(self, rows: Array, target: Any = None) -> "Sample":
        """Fit on these rows; the others are the validation rows, for callbacks to look at."""
        train, others = self._take(rows), self._take(np.setdiff1d(np.arange(len(self.names)), rows))

        def with_rows(data: Any) -> Any:
            found = {name: value for name, value in vars(self.data).items() if name not in {*vars(data), "splits"}}
            vars(data).update(found)  # what it would read, such as the columns of a file
            return replace_rows(data, {"train": train, "val": others, "test": others})

        self.trainer, self.model, self.fitted = self.configured.fit(with_rows, callbacks=self.callbacks)
        return self

    def predict_proba(self, rows: Array) -> Array:
        with quiet():
            outputs: Any = self.trainer.predict(self.model, self._loader(rows))
        proba = torch.cat(outputs).cpu().double().numpy()
        return proba / proba.sum(axis=1, keepdims=True)  # they sum to 1 in float32 only

    def predict(self, rows: Array) -> Array:
        return self.predict_proba(rows).argmax(axis=1)

    def judge(self, rows: Array) -> Fold:
        proba = self.predict_proba(rows)
        with quiet():
            [found] = self.trainer.validate(self.model, self._loader(rows), verbose=False)
        metrics = {name.removeprefix("val/"): float(value) for name, value in found.items()}
        metrics["nll"] = float(log_loss(self.target[rows], proba, labels=range(proba.shape[1])))
        return Fold(rows, proba, metrics)

    def cross_validate(self, folds: Sequence[tuple[Array, Array]], score: Callable[[Fold], float]) -> Array:
        """The score of each fold, whose rows a fit on the others judges."""
        numbers, scoring = np.arange(len(self.names)), lambda fitted, rows: score(fitted.judge(rows))
        return cross_validate(self, numbers, cv=folds, scoring=scoring, error_score="raise")["test_score"]

    def _loader(self, rows: Array) -> Any:
        self.fitted.splits["val"] = self._take(rows)
        return self.fitted.val_dataloader()

    def _take(self, rows: Array) -> tuple[Any, ...]:
        columns = (self.x, self.labels)
        return tuple(c[torch.from_numpy(rows)] if isinstance(c, Tensor) else [c[n] for n in rows] for c in columns)


def cross_validated(configured: Configured, number: int, *callbacks: L.Callback) -> tuple[Sample, list[Fold]]:
    """The training and validation rows in stratified folds, beside a progress bar."""
    sample, found = Sample(configured, "train", "val", callbacks=callbacks), list[Fold]()
    folds = stratified_folds(sample.names, number, configured.config.seed_everything)
    with Progress() as bar:
        task = bar.add_task("folds", total=len(folds))

        def keep(fold: Fold) -> float:
            found.append(fold)
            bar.advance(task)
            return fold.metrics["nll"]

        sample.cross_validate(folds, keep)
    return sample, found


def _joined(parts: Any) -> Any:
    return torch.cat(parts) if isinstance(parts[0], Tensor) else [row for part in parts for row in part]
