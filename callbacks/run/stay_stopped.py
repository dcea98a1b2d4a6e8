"""A run that early stopping has ended stays ended."""

from typing import Any

import lightning as L
from lightning.pytorch.utilities.rank_zero import rank_zero_only


class StayStopped(L.Callback):
    """Ends a resumed fit at once where EarlyStopping had ended it; by itself Lightning trains for one epoch more.

    So a run that was killed after its last epoch, over its pictures, ends with the weights of an unbroken one.
    """

    def on_train_start(self, trainer: Any, pl_module: L.LightningModule) -> None:
        for callback in trainer.early_stopping_callbacks:
            if callback.stopped_epoch:
                trainer.should_stop = True
                rank_zero_only(print)(
                    f"EarlyStopping had ended this run after epoch {callback.stopped_epoch + 1}: nothing to train; "
                    "to go on nevertheless, leave it out of trainer.callbacks"
                )
