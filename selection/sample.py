"""The rows of a configuration, fitted and judged by their numbers, and their cross-validation."""

from collections.abc import Sequence
from pydoc import locate
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from sklearn.metrics import log_loss
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


class Sample:
    """N rows of some splits of a configuration.

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

    def judge(self, seen: Array, held_out: Array) -> Fold:
        """Judge the rows `held_out` by a fit on the rows `seen`, whose callbacks find them as the validation rows."""
        train, val = self._take(seen), self._take(held_out)

        def with_rows(data: Any) -> Any:
            found = {name: value for name, value in vars(self.data).items() if name not in {*vars(data), "splits"}}
            vars(data).update(found)  # what it would read, such as the columns of a file
            return replace_rows(data, {"train": train, "val": val, "test": val})

        trainer, model, data = self.configured.fit(with_rows, callbacks=self.callbacks)
        with quiet():
            outputs: Any = trainer.predict(model, data.val_dataloader())
            [found] = trainer.validate(model, data.val_dataloader(), verbose=False)
        proba = torch.cat(outputs).cpu().double().numpy()
        proba /= proba.sum(axis=1, keepdims=True)  # they sum to 1 in float32 only
        metrics = {name.removeprefix("val/"): float(value) for name, value in found.items()}
        metrics["nll"] = float(log_loss(self.target[held_out], proba, labels=range(proba.shape[1])))
        return Fold(held_out, proba, metrics)

    def _take(self, rows: Array) -> tuple[Any, ...]:
        columns = (self.x, self.labels)
        return tuple(c[torch.from_numpy(rows)] if isinstance(c, Tensor) else [c[n] for n in rows] for c in columns)


def cross_validated(configured: Configured, number: int, *callbacks: L.Callback) -> tuple[Sample, list[Fold]]:
    """The training and validation rows in stratified folds, beside a progress bar."""
    sample = Sample(configured, "train", "val", callbacks=callbacks)
    folds = stratified_folds(sample.names, number, configured.config.seed_everything)
    return sample, [sample.judge(seen, held_out) for seen, held_out in track(folds, "folds")]


def _joined(parts: Any) -> Any:
    return torch.cat(parts) if isinstance(parts[0], Tensor) else [row for part in parts for row in part]
