"""A RichProgressBar that updates five times a second instead of after every batch."""

import math
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar


class ThrottledProgressBar(RichProgressBar):
    """Lightning's Rich bar at five updates a second.

    Lightning redraws it 100 times a second and updates it after every batch, which takes a sixth of a fit whose steps
    last a millisecond or two.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=5)
        self._updated = -math.inf  # time of the last update

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        """Forward the hook at most `refresh_rate` times per second, and after an epoch's last batch."""
        now = time.monotonic()
        if now - self._updated >= 1 / self.refresh_rate or trainer.is_last_batch:
            self._updated = now
            super().on_train_batch_end(trainer, *rest)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Add the last train/loss: logged for the bar, it would be read, and a GPU waited for, at every step."""
        metrics = super().get_metrics(trainer, pl_module)
        loss = trainer.callback_metrics.get("train/loss")
        return metrics if loss is None else {"train/loss": float(loss)} | metrics
