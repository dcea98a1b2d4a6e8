"""Ctrl-C and SIGTERM in the middle of a fit: finish the step, save, say where."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Checkpoint

from callbacks.run_files import validation_follows


class GracefulStop(Checkpoint):  # by which Lightning calls it last, when other checkpoints are written
    """On the first SIGINT or SIGTERM during `fit`, saves checkpoints/last.ckpt after the step under way and stops.

    Stopping in the middle of a step could leave W updated and b not, which no resume could put right. A step that a
    validation follows is done after the validation, and the last of an epoch after the epoch. A second signal stops at
    once, without saving.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen, from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._note)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop here, if a signal has come to any of the processes."""
        if self._any_received(trainer) and not validation_follows(trainer):
            self._stop(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Likewise after a validation within an epoch."""
        within = trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.is_last_batch
        if within and self._any_received(trainer):
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Likewise, but for the last epoch: the run ends anyway, and properly."""
        if trainer.current_epoch + 1 != trainer.max_epochs and self._any_received(trainer):
            self._stop(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave signals to whom they belonged."""
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Likewise."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number

    def _stop(self, trainer: L.Trainer) -> None:
        path = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        trainer.save_checkpoint(path)
        number = self.received or signal.SIGTERM
        if trainer.is_global_zero:
            print(
                f"\nstopped by {signal.Signals(number).name} after step {trainer.global_step}; saved {path}\n"
                f"go on with: --ckpt_path {path}"
            )
        raise SystemExit(128 + number)

    def _any_received(self, trainer: L.Trainer) -> bool:
        if trainer.world_size == 1:
            return self.received is not None
        # Processes hear of a signal at different steps; they must stop after the same one.
        received = torch.tensor(float(self.received is not None), device=trainer.strategy.root_device)
        dist.all_reduce(received, op=dist.ReduceOp.MAX)
        return bool(received)

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
