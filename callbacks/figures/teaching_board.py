"""TensorBoard as a teaching board: how weights, gradients and a few probabilities move while a model learns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from callbacks.protocols import NamedClasses, PlottableModel, datamodule_of, lack


class TeachingBoard(L.Callback):
    """Writes to TensorBoard, once an epoch:

    * under "weights" and "gradients", a histogram of each parameter and of its gradient in the epoch's last batch (of a
      sparse gradient, of the features that occur in that batch);
    * under "proba", the probability of the true class of the first, the middle and the last validation row.

    The model must be a `PlottableModel`, the data have `class_names` (see `callbacks.protocols`), and a batch
    begin with x and target. Without a TensorBoard logger it does nothing.

    Raises:
        ValueError: from `setup`, model or data lack a member.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse what has no probabilities or no names, before training starts."""
        unmet = lack(pl_module, PlottableModel) or lack(datamodule_of(trainer), NamedClasses)
        if stage == "fit" and unmet:
            raise ValueError(f"TeachingBoard does not apply: {unmet}; add it, or remove the callback")

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write gradients before the update uses them up."""
        if trainer.is_last_batch:
            for name, parameter in pl_module.named_parameters():
                if (gradient := parameter.grad) is not None:
                    values = gradient.coalesce().values() if gradient.is_sparse else gradient
                    _write_histogram(trainer, f"gradients/{name}", values, trainer.global_step)  # steps count from 0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for name, parameter in pl_module.named_parameters():
            _write_histogram(trainer, f"weights/{name}", parameter, trainer.global_step - 1)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Write the probability of the true class for three rows of the first batch; no gradient is tracked here."""
        if batch_idx == 0 and not trainer.sanity_checking:
            x, target = batch[:2]
            proba = pl_module.predict_proba(x).gather(1, target.unsqueeze(1)).squeeze(1)
            names = datamodule_of(trainer).class_names
            for board in _boards(trainer):
                for row in sorted({0, len(target) // 2, len(target) - 1}):
                    board.add_scalar(f"proba/row {row} is {names[target[row]]}", proba[row], trainer.global_step - 1)


def _write_histogram(trainer: L.Trainer, tag: str, values: Tensor, step: int) -> None:
    if values.numel() and values.isfinite().all():  # of a diverged model, or of no feature at all, there is none
        for board in _boards(trainer):
            board.add_histogram(tag, values, step)


def _boards(trainer: L.Trainer) -> Iterator[Any]:
    """The SummaryWriter of each TensorBoard logger, on the first process alone."""
    if trainer.is_global_zero:
        yield from (logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))
