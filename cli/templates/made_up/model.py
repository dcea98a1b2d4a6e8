"""A LightningModule of one's own."""

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn


class Model(L.LightningModule):
    """One linear layer.

    Args:
        num_features: columns of x, taken from the data.
        num_classes: labels, taken from the data.
        lr: step size of Adam.
    """

    def __init__(self, num_features: int, num_classes: int, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(num_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of rows (N, D)."""
        return self.layer(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._loss(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._loss(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0]).softmax(dim=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.hparams["lr"])

    def _loss(self, batch: Any, split: str) -> Tensor:
        x, target = batch[:2]
        logits = self(x)
        accuracy = (logits.argmax(dim=1) == target).float().mean()
        loss = nn.functional.cross_entropy(logits, target)
        self.log_dict({f"{split}/loss": loss, f"{split}/accuracy": accuracy}, batch_size=len(target))
        return loss
