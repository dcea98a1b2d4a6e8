"""Fisher's Iris: 150 flowers of 3 species, 4 measurements in cm; ships with scikit-learn, so nothing is downloaded."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.table.tabular import Table, TabularDataModule

CLASSES = ("setosa", "versicolor", "virginica")
FEATURES = ("sepal length", "sepal width", "petal length", "petal width")


class IrisDataModule(TabularDataModule):
    """Two or three species, by any of the four measurements, in a stratified train/val/test split.

    Args:
        classes: two or three of setosa, versicolor, virginica. Of two, the second is the positive class.
        features: some of "sepal length", "sepal width", "petal length", "petal width" (in cm); two can be drawn.
        imbalance: share of each class's rows to keep, as {virginica: 0.2}; classes not named keep all. With a rare
            class, a model that ignores it still has a high accuracy.
        weighted_sampler: draw training rows with replacement, so that all classes are equally frequent on average.
        options: as in TabularDataModule.

    Raises:
        ValueError: an unknown, repeated or missing name, or a class with too few rows to be in every split.
    """

    def __init__(
        self,
        classes: Sequence[str] = CLASSES,
        features: Sequence[str] = FEATURES,
        imbalance: dict[str, float] | None = None,
        weighted_sampler: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        classes, features = classes or (), features or ()  # null passes jsonargparse's check of types
        _require_names("classes", classes, CLASSES, at_least=2)
        features = [name.removesuffix(" (cm)") for name in features]  # scikit-learn's spelling works too
        _require_names("features", features, FEATURES, at_least=1)
        self.imbalance = imbalance or {}
        _require_names("imbalance", list(self.imbalance), classes, at_least=0)
        if not all(0 < share <= 1 for share in self.imbalance.values()):
            raise ValueError(f"imbalance must name shares above 0 and up to 1, got {self.imbalance}")
        self.class_names = list(classes)
        self.feature_names = [f"{name} (cm)" for name in features]
        self.weighted_sampler = weighted_sampler

    def load_table(self) -> Table:
        """Choose classes, features and rows."""
        from sklearn.datasets import load_iris  # slow to import, so not at the top

        iris = load_iris()
        columns = [FEATURES.index(name.removesuffix(" (cm)")) for name in self.feature_names]
        generator = torch.Generator().manual_seed(self.seed)
        rows_of_class: list[Tensor] = []
        for name in self.class_names:
            rows = torch.from_numpy((iris.target == CLASSES.index(name)).nonzero()[0])
            count = round(len(rows) * self.imbalance.get(name, 1.0))
            if min(count * self.val_fraction, count * self.test_fraction) < 1:
                raise ValueError(
                    f"class {name!r} keeps {count} rows, too few for every split; raise its share in imbalance, "
                    "val_fraction or test_fraction"
                )
            rows_of_class.append(rows[torch.randperm(len(rows), generator=generator)[:count].sort().values])
        target = torch.cat([torch.full((len(rows),), label) for label, rows in enumerate(rows_of_class)])
        x = iris.data[torch.cat(rows_of_class)][:, columns]
        return Table(x, target, self.feature_names, self.class_names)

    def train_weights(self) -> Tensor | None:
        """1 / (rows of its class) for every training row, so that each class is drawn equally often."""
        if not self.weighted_sampler:
            return None
        target = self.points("train")[1]
        return 1 / target.bincount().double()[target]


def _require_names(option: str, names: Sequence[str], known: Sequence[str], at_least: int) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) != len(names) or len(names) < at_least:
        raise ValueError(
            f"{option}: expected {f'at least {at_least} ' if at_least else ''}different names out of "
            f"{', '.join(known)}; got {', '.join(map(str, names)) or 'none'}"
        )
