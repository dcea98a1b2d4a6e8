"""Tables of a few numbers per row: made or read, split, standardised. Iris and XOR are two of them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.batches import Draw, Rows, RowsDataModule


class TabularDataModule(RowsDataModule):
    """Keeps the raw rows of each split and standardises them by the training rows' mean and standard deviation.

    A subclass implements `load`. Mean and scale travel in the checkpoint, so that rows given at prediction time are
    scaled as the training rows were.

    Args:
        batch_size: rows per update, over all devices together.
        seed: of the split and of the order of the rows.
        num_workers: processes that cut batches.
        points_to_predict: raw rows for `predict`, one list of feature values each; None predicts the test rows.
    """

    feature_names: list[str]
    class_names: list[str]

    def __init__(
        self, batch_size: int, seed: int, num_workers: int = 0, points_to_predict: list[list[float]] | None = None
    ) -> None:
        super().__init__(batch_size, seed, num_workers)
        self.points_to_predict = points_to_predict
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}
        self.mean: Tensor | None = None  # (D,), with scale: what standardising subtracts and divides by
        self.scale: Tensor | None = None

    def load(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The splits "train", "val" and "test": raw features (N, F) in float32 and target (N,)."""
        raise NotImplementedError

    @property
    def num_features(self) -> int:
        """D, columns of what `transform` returns."""
        return len(self.feature_names)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def class_counts(self) -> list[int]:
        """Training rows of each class, K numbers."""
        return torch.bincount(self.points("train")[1], minlength=self.num_classes).tolist()

    def points(self, split: str) -> tuple[Tensor, Tensor]:
        """Raw features (N, F), in their own units, and target (N,) of a split."""
        if not self.splits:
            self.splits = self.load()
            for name, (x, _) in self.splits.items():
                if not torch.isfinite(x).all():
                    row = int((~torch.isfinite(x)).any(dim=1).nonzero()[0])
                    raise ValueError(
                        f"expected finite numbers, got {x[row].tolist()} in row {row} of the {name} split; "
                        "drop or repair that row"
                    )
        return self.splits[split]

    def expand(self, x: Tensor) -> Tensor:
        """Add derived columns to raw features: (N, F) to (N, D). Here none."""
        return x

    def transform(self, x: Tensor) -> Tensor:
        """Raw features (N, F) to what the model takes, (N, D): derived columns added, each column standardised."""
        if self.mean is None or self.scale is None:
            from sklearn.preprocessing import StandardScaler  # slow to import, so not at the top

            scaler = StandardScaler().fit(self.expand(self.points("train")[0]).double().numpy())
            self.mean, self.scale = torch.from_numpy(scaler.mean_).float(), torch.from_numpy(scaler.scale_).float()
        return (self.expand(x) - self.mean) / self.scale

    def rows(self, split: str) -> Rows:
        """The rows of a split, standardised."""
        if split == "predict" and self.points_to_predict is not None:
            x = self._given_points(self.points_to_predict)
            target = torch.full((len(x),), -1)  # unknown
        else:
            x, target = self.points("test" if split == "predict" else split)
        x = self.transform(x)

        def cut(draw: Draw) -> Tensor:
            return x[draw.rows]

        return Rows(cut, target)

    def describe(self, rows: Sequence[int], split: str) -> list[dict[str, Any]]:
        """The raw feature values of some rows of the test or predict split, by feature name."""
        x = self.points("test")[0]
        if split == "predict" and self.points_to_predict is not None:
            x = self._given_points(self.points_to_predict)
        return [{name: round(v, 4) for name, v in zip(self.feature_names, x[r].tolist(), strict=False)} for r in rows]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: names, mean and scale."""
        self.transform(self.points("train")[0][:1])  # fits mean and scale, if nobody asked for them yet
        return {
            "feature_names": list(self.feature_names),
            "class_names": list(self.class_names),
            "mean": self.mean,
            "scale": self.scale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take mean and scale from a checkpoint, if it speaks of the same features and classes."""
        for key in ("feature_names", "class_names"):
            if state.get(key) != getattr(self, key):
                raise ValueError(
                    f"the checkpoint was trained on {key} {state.get(key)}, the configuration asks for "
                    f"{getattr(self, key)}; use the run's own config.yaml"
                )
        if len(state["mean"]) != self.num_features:
            raise ValueError(
                f"the checkpoint was trained on {len(state['mean'])} columns, the configuration makes "
                f"{self.num_features}; use the run's own config.yaml"
            )
        self.mean, self.scale = state["mean"], state["scale"]

    def _given_points(self, points: list[list[float]]) -> Tensor:
        """`points_to_predict` as (N, F), checked."""
        width = self.points("train")[0].shape[1]
        for number, point in enumerate(points):
            if len(point) != width:
                raise ValueError(
                    f"points_to_predict: expected {width} numbers ({', '.join(self.feature_names[:width])}), "
                    f"got {point} as point {number}"
                )
            if not all(map(math.isfinite, point)):
                raise ValueError(f"points_to_predict: expected finite numbers, got {point} as point {number}")
        return torch.tensor(points, dtype=torch.float32).reshape(-1, width)
