"""Fits under the Trainer that are timed: with everything off, and as `train.py` ships."""

import logging
import os
import pty
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, ClassVar

import lightning as L
import torch

import train
from benchmarks.loops import CONFIG


class Stopwatch(L.Callback):
    """Writes down when things happen in a fit; `Stopwatch.latest` is that of the last one."""

    latest: ClassVar["Stopwatch"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """The first that a callback hears of a fit."""
        Stopwatch.latest, self.started = self, time.perf_counter()
        self.steps: list[float] = []  # when each step began
        self.epochs: list[float] = []  # seconds of training in each epoch, validation excluded
        self.curve: list[tuple[float, float]] = []  # seconds since the start, in-scope accuracy

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After the sanity check."""
        self.training_started = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The epoch begins."""
        self.device = pl_module.device
        self.epoch: float | None = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """A step begins."""
        self.steps.append(time.perf_counter())

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The epoch's training is over."""
        if not trainer.sanity_checking:
            self._end_of_training()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Likewise, where nothing was validated."""
        self._end_of_training()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The accuracy of these weights is known."""
        if not trainer.sanity_checking:
            accuracy = float(trainer.callback_metrics["val/in_scope_accuracy"])
            self.curve.append((time.perf_counter() - self.started, accuracy))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validation, curves and checkpoints are done too."""
        end = time.perf_counter()
        self.fit, self.whole = end - self.training_started, end - self.started
        self.num_epochs, self.num_steps = trainer.current_epoch, trainer.global_step

    def _end_of_training(self) -> None:
        if self.epoch is not None:
            if self.device.type == "cuda":  # it may still be at work
                torch.cuda.synchronize()
            self.epochs.append(time.perf_counter() - self.epoch)
            self.epoch = None


def slim_fit(
    model: L.LightningModule, data: L.LightningDataModule, *callbacks: L.Callback, **options: Any
) -> Stopwatch:
    """A fit under a Trainer with everything off that can be: no logger, bar, checkpoints, or validation."""
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    none = {"num_sanity_val_steps": 0, "limit_val_batches": 0}
    with quiet():
        L.Trainer(**{"accelerator": "cpu"} | off | none | options, callbacks=[Stopwatch(), *callbacks]).fit(model, data)
    return Stopwatch.latest


def shipped_fit(*arguments: str) -> Stopwatch:
    """`python train.py fit --config configs/clinc150.yaml` with all its defaults, on a terminal, in this process."""
    with tempfile.TemporaryDirectory() as folder, terminal(), quiet():
        command = ["train.py", "fit", "--config", str(CONFIG), "--trainer.default_root_dir", f"{folder}/run"]
        watch = ["--trainer.accelerator", "cpu", "--trainer.callbacks+=benchmarks.fits.Stopwatch"]
        kept, sys.argv = sys.argv, [*command, *watch, *arguments]
        try:
            train.main()
        finally:
            sys.argv = kept
    return Stopwatch.latest


@contextmanager
def quiet() -> Iterator[None]:
    """Without what Lightning has to say: its advice does not fit a measurement."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def terminal() -> Iterator[None]:
    """Let standard output be a terminal whose text nobody reads, for a progress bar draws itself only on one."""
    master, slave = pty.openpty()
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(slave, 1)
    os.close(slave)
    reader = Thread(target=_read_all, args=(master,), daemon=True)
    reader.start()
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        reader.join(timeout=5)
        os.close(master)


def _read_all(master: int) -> None:
    try:
        while os.read(master, 65536):
            pass
    except OSError:  # the other end is closed
        pass
