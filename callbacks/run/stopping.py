"""Ctrl-C, SIGTERM and SLURM's notice during a fit: finish the step, save, print how to resume."""

import shlex
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar
from torch import Tensor

from callbacks.run.checkpoints import has_pending_gradients, validates_before_next_batch
from callbacks.run.requeue import UNFINISHED, requeue, requeue_signal
from callbacks.terminal import relative


class GracefulStop(Checkpoint):  # a Checkpoint, because Lightning runs those last: after the other callbacks' files
    """On the first SIGINT or SIGTERM during `fit`, saves checkpoints/last.ckpt and stops.

    Stops only between steps of the optimizer, so that W and b are never from different steps and no gradient is lost.
    If a validation or the end of the epoch is due, it runs first. A second signal stops at once, without saving. Ctrl-C
    after the last step, while pictures are drawn, only prints where the run is. SIGTERM outside of `fit`, where there
    is nothing to save, stops at once. SLURM's notice (`#SBATCH --signal=SIGUSR1@90`) does the same as SIGTERM and
    requeues the job; Lightning's own handler saves in the middle of a step.

    Args:
        command: goes on with the run once --ckpt_path is added to it.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.options = ""  # all of this command's, which train.py sets
        self.received: int | None = None  # number of the first signal
        self._is_saved = False  # once stopping, or once the training is over
        self._reduced: tuple[Any, Tensor] | None = None  # of several processes, whether any of them has received one
        self._notice: signal.Signals | None = None  # with which SLURM announces the end of the job's time
        self._previous_handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._notice, self._is_saved = requeue_signal(trainer), False
        if trainer.world_size > 1:
            self._group: Any = dist.new_group(backend="gloo")  # on CPUs, so that no GPU is waited for
            self._reduced = None
            # At every step Lightning too lets all processes wait for each other, over a SIGTERM that is handled here.
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        for number in filter(None, (signal.SIGINT, signal.SIGTERM, self._notice)):
            self._listen(number, self._handle)

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(signal.SIGTERM, self._handle)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit":
            self._listen(signal.SIGTERM, partial(_stop_at_once, trainer))

    on_test_start = on_predict_start = on_validation_start

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save here, but stop before the next batch: Lightning logs this step's curves in between."""
        waits = has_pending_gradients(trainer) or validates_before_next_batch(trainer)
        if self._any_received(trainer) and not waits:
            self._save(trainer)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self._is_saved:
            self._stop(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop after a validation within an epoch; after the epoch's last batch, its end is still due."""
        within_epoch = trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.is_last_batch
        if within_epoch and self._any_received(trainer) and not has_pending_gradients(trainer):
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop after an epoch; not after the last one, with which the run ends normally."""
        if trainer.current_epoch + 1 != trainer.max_epochs and self._any_received(trainer):
            self._stop(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restore_handlers()
        self._is_saved = True
        if self._reduced is not None:  # a process that exits while gloo is at work may abort
            self._reduced[0].wait()
            dist.destroy_process_group(self._group)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._restore_handlers()
        if isinstance(exception, KeyboardInterrupt) and self.received is None and self._is_saved:
            self.received = signal.SIGINT
            for logger in trainer.loggers:  # of all that follows here, what Lightning has not done before the pictures
                logger.finalize("interrupted")
            self._stop(trainer)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(_last(trainer), weights_only=False)
        self._is_saved = True

    def _stop(self, trainer: L.Trainer) -> None:
        if not self._is_saved:
            self._save(trainer)
        number = self.received or signal.SIGTERM
        if trainer.is_global_zero:
            path = relative(_last(trainer))
            if isinstance(bar := trainer.progress_bar_callback, RichProgressBar):
                bar.teardown(trainer, trainer.lightning_module, "fit")  # before a line is printed below it
            print(
                f"\nstopped by {signal.Signals(number).name} after step {trainer.global_step}; saved {path}\n"
                f"go on with: {self.command} --ckpt_path {shlex.quote(str(path))}"
            )
            marker = Path(trainer.default_root_dir, UNFINISHED)
            if number == self._notice:
                requeue(marker, self.options)
            elif number == signal.SIGINT:
                marker.unlink(missing_ok=True)
        raise SystemExit(128 + number)

    def _any_received(self, trainer: L.Trainer) -> bool:
        if trainer.world_size == 1:
            return self.received is not None
        # A signal reaches the processes at different steps, but they must stop after the same one: that after which
        # all know of it. The result travels while the next step is computed.
        work, received = self._reduced or self._reduce()
        work.wait()
        self._reduced = self._reduce()
        return bool(received)

    def _listen(self, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
        if threading.current_thread() is threading.main_thread():  # no other receives signals, or may ask for them
            self._previous_handlers.setdefault(number, signal.signal(number, handler))

    def _reduce(self) -> tuple[Any, Tensor]:
        received = torch.tensor(float(self.received is not None))
        return dist.all_reduce(received, op=dist.ReduceOp.MAX, group=self._group, async_op=True), received

    def _restore_handlers(self) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers = {}


def _stop_at_once(trainer: L.Trainer, number: int, frame: FrameType | None) -> None:
    if trainer.strategy.launcher is not None:
        trainer.strategy.launcher.kill(number)  # the processes that this one has started
    print(f"\nstopped by {signal.Signals(number).name}")
    raise SystemExit(128 + number)


def _last(trainer: L.Trainer) -> Path:
    return Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
