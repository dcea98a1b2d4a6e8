"""XOR: four corners that no straight line separates, and the one extra column with which a linear model does."""

import torch
from torch import Tensor

from datamodules.table.tabular import TabularDataModule

CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))  # the class is 1 where the two coordinates differ


class XORDataModule(TabularDataModule):
    """Points around (0, 0), (0, 1), (1, 0), (1, 1); class 1 where exactly one coordinate is 1.

    Validation and test splits are fresh draws of the same size.

    Args:
        rows_per_corner: points around each corner, in each split.
        noise: standard deviation of the points around their corner; 0 puts all of them on it.
        interaction: add the product x1·x2 of the centred coordinates as a third column, which separates the classes.
        batch_size: rows per update, over all devices together.
        seed: of the noise and of the order of the rows; null takes the run's own (seed_everything), or else 42.
        predict_inputs: points for `predict`, as [[0, 1]]; null predicts the test rows.

    Raises:
        ValueError: rows_per_corner below 1 or negative noise.
    """

    def __init__(
        self,
        rows_per_corner: int = 1,
        noise: float = 0.0,
        interaction: bool = False,
        batch_size: int = 4,
        seed: int | None = None,
        predict_inputs: list[list[float]] | None = None,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed, predict_inputs=predict_inputs)
        if rows_per_corner < 1 or not 0 <= noise < float("inf"):
            raise ValueError(
                "expected rows_per_corner of at least 1 and noise of at least 0, "
                f"got rows_per_corner={rows_per_corner} and noise={noise}"
            )
        self.rows_per_corner, self.noise, self.interaction = rows_per_corner, noise, interaction
        self.feature_names = ["x1", "x2"]
        self.class_names = ["0 (equal)", "1 (different)"]

    def load_splits(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Draw the three splits."""
        corners = torch.tensor(CORNERS).repeat_interleave(self.rows_per_corner, dim=0)  # (4 · rows_per_corner, 2)
        target = (corners[:, 0] != corners[:, 1]).long()
        generator = torch.Generator().manual_seed(self.seed)
        return {
            split: (corners + self.noise * torch.randn(corners.shape, generator=generator), target)
            for split in ("train", "val", "test")
        }

    def add_features(self, x: Tensor) -> Tensor:
        """Append the product of the centred coordinates: (N, 2) to (N, 3), positive where both are on one side."""
        if not self.interaction:
            return x
        return torch.cat([x, ((x[:, 0] - 0.5) * (x[:, 1] - 0.5)).unsqueeze(1)], dim=1)
