"""Fisher's Iris: 150 flowers of 3 species, 4 measurements in cm; ships with scikit-learn, so nothing is downloaded."""

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.tabular import TabularDataModule

CLASSES = ("setosa", "versicolor", "virginica")
FEATURES = ("sepal length", "sepal width", "petal length", "petal width")


class IrisDataModule(TabularDataModule):
    """Two or three species, by any of the four measurements, in a stratified train/val/test split.

    Args:
        classes: two or three of setosa, versicolor, virginica. Of two, the second is the positive class.
        features: some of "sepal length", "sepal width", "petal length", "petal width" (in cm); two can be drawn.
        val_fraction: share of the rows held out for validation, in (0, 1).
        test_fraction: share of the rows held out for the test, in (0, 1).
        imbalance: share of each class's rows to keep, as {virginica: 0.2}; classes not named keep all. For the
            lesson that accuracy flatters a model that ignores a rare class.
        weighted_sampler: draw training rows so that all classes come equally often (with replacement).
        batch_size: rows per update, over all devices together.
        seed: of the split and of the order of the rows.
        num_workers: processes that cut batches.
        points_to_predict: flowers for `predict`, as [[4.9, 1.7]]; None predicts the test rows.

    Raises:
        ValueError: an unknown, repeated or missing name, or a class with too few rows to be in every split.
    """

    def __init__(
        self,
        classes: Sequence[str] = CLASSES,
        features: Sequence[str] = FEATURES,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        imbalance: dict[str, float] | None = None,
        weighted_sampler: bool = False,
        batch_size: int = 16,
        seed: int = 42,
        num_workers: int = 0,
        points_to_predict: list[list[float]] | None = None,
    ) -> None:
        super().__init__(batch_size, seed, num_workers, points_to_predict)
        _require_names("classes", classes, CLASSES, at_least=2)
        features = [name.removesuffix(" (cm)") for name in features]  # scikit-learn's spelling is fine too
        _require_names("features", features, FEATURES, at_least=1)
        if not (val_fraction > 0 and test_fraction > 0 and val_fraction + test_fraction < 1):
            raise ValueError(
                "val_fraction and test_fraction must be above 0 and leave rows to train on, "
                f"got {val_fraction} and {test_fraction}"
            )
        self.imbalance = imbalance or {}
        _require_names("imbalance", list(self.imbalance), classes, at_least=0)
        if not all(0 < share <= 1 for share in self.imbalance.values()):
            raise ValueError(f"imbalance must name shares above 0 and up to 1, got {self.imbalance}")
        self.class_names = list(classes)
        self.feature_names = [f"{name} (cm)" for name in features]
        self.val_fraction, self.test_fraction, self.weighted_sampler = val_fraction, test_fraction, weighted_sampler

    def load(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Choose classes, features and rows, then split them."""
        from sklearn.datasets import load_iris  # slow to import, so not at the top
        from sklearn.model_selection import train_test_split

        iris = load_iris()
        columns = [FEATURES.index(name.removesuffix(" (cm)")) for name in self.feature_names]
        generator = torch.Generator().manual_seed(self.seed)
        kept: list[Tensor] = []
        for name in self.class_names:
            rows = torch.from_numpy((iris.target == CLASSES.index(name)).nonzero()[0])
            count = round(len(rows) * self.imbalance.get(name, 1.0))
            if min(count * self.val_fraction, count * self.test_fraction) < 1:
                raise ValueError(
                    f"class {name!r} keeps {count} rows, too few for every split; raise its share in imbalance, "
                    "val_fraction or test_fraction"
                )
            kept.append(rows[torch.randperm(len(rows), generator=generator)[:count].sort().values])
        x = torch.from_numpy(iris.data).float()[torch.cat(kept)][:, columns]
        target = torch.cat([torch.full((len(rows),), label) for label, rows in enumerate(kept)])

        held_out = {"stratify": target, "random_state": self.seed}
        rest, test = train_test_split(
            torch.arange(len(target)).numpy(), test_size=round(len(target) * self.test_fraction), **held_out
        )
        held_out["stratify"] = target[rest]
        train, val = train_test_split(rest, test_size=round(len(target) * self.val_fraction), **held_out)
        return {name: (x[rows], target[rows]) for name, rows in (("train", train), ("val", val), ("test", test))}

    def train_weights(self) -> Tensor | None:
        """1 / (rows of its class) for every training row, so that each class is drawn equally often."""
        if not self.weighted_sampler:
            return None
        return 1 / torch.tensor(self.class_counts, dtype=torch.float64)[self.points("train")[1]]


def _require_names(option: str, names: Sequence[str], known: Sequence[str], at_least: int) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) != len(names) or len(names) < at_least:
        raise ValueError(
            f"{option}: expected {f'at least {at_least} ' if at_least else ''}different names out of "
            f"{', '.join(known)}; got {', '.join(map(str, names)) or 'none'}"
        )
