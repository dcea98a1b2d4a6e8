"""Divergence: the first loss or weight that is not finite ends the fit, with the last good checkpoint kept."""

import math
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from callbacks.terminal import relative


class StopOnDivergence(L.Callback):
    """Ends a fit whose loss or weights are not finite any more, before a checkpoint of them is written.

    The loss is the one that `training_step` returns, or the logged train/loss of an update by hand. It is read at every
    step on a CPU, elsewhere at each logged step, as reading it waits for the device; of several processes, of which one
    alone must not stop, the weights alone are.

    Raises:
        ValueError: from the hooks: the step, the learning rate, and which checkpoint is the last good one.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        is_logged = trainer.global_step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        if loss is None and is_logged:  # of an update by hand
            loss = trainer.callback_metrics.get("train/loss")
        if trainer.world_size > 1 or not isinstance(loss, Tensor) or not (is_logged or loss.device.type == "cpu"):
            return
        if not math.isfinite(float(loss)):
            self._stop(trainer, f"the loss became {float(loss)}")

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        for name, weight in pl_module.named_parameters():
            # The sum of finite numbers is finite, unless it overflows; summing makes no copy.
            if not weight.detach().sum().isfinite() and not weight.detach().isfinite().all():
                self._stop(trainer, f"{name} is not finite any more")

    def _stop(self, trainer: L.Trainer, what: str) -> None:
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        rate = f" at a learning rate of {rates[0]:g}" if rates else ""
        last = Path(trainer.default_root_dir, "checkpoints", "last.ckpt")
        kept = f"the last good checkpoint is {relative(last)}" if last.is_file() else "no checkpoint was written"
        raise ValueError(f"{what} after step {trainer.global_step}{rate}: lower the rate, or scale the data; {kept}")
