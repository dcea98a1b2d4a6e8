"""Models judged by rows that they have not seen: the folds of `cross_validate`, `audit` and `tune`."""

import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray

from cli.refit import Refit, Rows, interruptible, predict, take
from datamodules.splits import listed

Array = NDArray[Any]


class Fold(NamedTuple):
    """A fold, judged by a model that has not seen it: n of N rows.

    Attributes:
        rows: which rows of the `Sample`, (n,).
        proba: (n, K).
        target: class numbers, (n,).
        metrics: those of `validate`, without "val/", and `nll`, the mean −log p(target), whatever the class weights.
    """

    rows: Array
    proba: Array
    target: Array
    metrics: dict[str, float]


class Sample:
    """The rows of train and validation together.

    Attributes:
        x, labels: as `load_splits` returns them.
        class_names: K names.
        names: the name of each row's class.
        places: which split each row is from, and which row of it that is.
        described: each row as its datamodule describes it, column to value.
    """

    def __init__(self, refit: Refit) -> None:
        data = refit.build()[1]
        splits = data.load_splits()
        self.x, self.labels = (_joined(splits["train"][column], splits["val"][column]) for column in (0, 1))
        self.class_names: list[str] = list(data.class_names)
        is_number = isinstance(self.labels, torch.Tensor)
        self.names = [self.class_names[k] for k in self.labels] if is_number else list(self.labels)
        sizes = {split: len(splits[split][0]) for split in ("train", "val")}
        self.places = [(split, n) for split, size in sizes.items() for n in range(size)]
        self.described = [row for split, size in sizes.items() for row in data.describe(range(size), split)]

    def divide(self, folds: int, seed: int) -> list[tuple[Array, Array]]:
        """For each fold the rows to learn from and those to judge by; fewer folds where no class has as many rows.

        The only row of a class is learned from in each fold and judged in none.

        Raises:
            ValueError: fewer than 2 folds, or no class with two rows.
        """
        from sklearn.model_selection import StratifiedKFold

        counts = Counter(self.names)
        if folds < 2:
            raise ValueError(f"folds must be at least 2, got {folds}")
        if (most := max(counts.values())) < 2:
            raise ValueError("expected two rows of a label, one to learn from and one to judge by; got one of each")
        if most < folds:
            print(f"warning: no label has more than {most} rows: {most} folds instead of {folds}", file=sys.stderr)
        folds = min(folds, most)
        if few := sorted(name for name, count in counts.items() if 1 < count < folds):
            print(f"warning: fewer rows than folds, so not in every fold: {listed(few)}", file=sys.stderr)
        if single := sorted(name for name, count in counts.items() if count == 1):
            print(f"warning: a single row, so learned from and never judged: {listed(single)}", file=sys.stderr)
        names = np.array(self.names)
        alone = np.isin(names, single)
        rows, always = np.flatnonzero(~alone), np.flatnonzero(alone)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # scikit-learn's on few rows, without the names
            divided = StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, names[rows])
            return [(np.concatenate([rows[seen], always]), rows[judged]) for seen, judged in divided]


def judge(
    refit: Refit, sample: Sample, divided: Sequence[tuple[Array, Array]], callbacks: Sequence[L.Callback] = ()
) -> Iterator[Fold]:
    """Fit on the other folds and judge, fold after fold.

    Args:
        refit: the configuration; its data may differ from the sample's in all but the rows.
        sample: the rows.
        divided: as `Sample.divide` returns it.
        callbacks: of each fit.

    Raises:
        ValueError: a fit diverged, or the configuration does not go together.
    """
    from sklearn.metrics import log_loss

    for seen, rows in divided:
        parts = {"train": seen, "val": rows, "test": rows}
        splits = {name: (take(sample.x, part), take(sample.labels, part)) for name, part in parts.items()}
        trainer, model, data = refit.fit(splits, callbacks=callbacks)
        proba, target = (tensor.cpu().double().numpy() for tensor in predict(trainer, model, data, "val"))
        proba /= proba.sum(axis=1, keepdims=True)  # they sum to 1 in float32 only
        with interruptible():
            [found] = trainer.validate(model, dataloaders=data.val_dataloader(), verbose=False)
        metrics = {name.removeprefix("val/"): float(value) for name, value in found.items()}
        metrics["nll"] = float(log_loss(target, proba, labels=range(proba.shape[1])))
        yield Fold(rows, proba, target.astype(int), metrics)


def _joined(first: Rows, second: Rows) -> Rows:
    return torch.cat([first, second]) if isinstance(first, torch.Tensor) else [*first, *second]  # type: ignore[list-item]
