"""1,797 handwritten digits of 8 × 8 pixels; they ship with scikit-learn, so nothing is downloaded."""

import torch
from torch import Tensor

from datamodules.table.tabular import Table, TabularDataModule

BRIGHTEST = 16.0


class DigitsDataModule(TabularDataModule):
    """The digits 0 to 9, with pixels from 0 to 1, in a stratified train/val/test split; options as in its base."""

    image_shape = (8, 8)

    def load_table(self) -> Table:
        """Rows of 64 pixels, from 0 to 16."""
        from sklearn.datasets import load_digits  # slow to import, so not at the top

        digits = load_digits()
        return Table(digits.data, digits.target, digits.feature_names, list("0123456789"))

    def fit_scale(self, x: Tensor) -> None:
        """One scale for all pixels; standardised, those at the edge that are hardly ever lit would be the loudest."""
        self.mean, self.scale = torch.zeros(x.shape[1]), torch.full((x.shape[1],), BRIGHTEST)
