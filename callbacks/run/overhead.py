"""A progress bar and a profiler that cost a step next to nothing."""

import math
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.profilers import PassThroughProfiler

NOTHING: AbstractContextManager[None] = nullcontext()


class NoProfiler(PassThroughProfiler):
    """Lightning's default profiler without its work: a generator for each of some sixty actions of every step."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return NOTHING


class ThrottledProgressBar(RichProgressBar):
    """Lightning's Rich bar, updated five times a second.

    Updated after every batch, it takes a sixth of a fit whose steps last a millisecond or two.
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
