"""Timed fits under the Trainer: with everything optional off, and as `train.py fit` runs them."""

import logging
import os
import pty
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import lightning as L
import torch

import train
from benchmarks.loops import CONFIG


class FitTimer(L.Callback):
    """Records when the stages of a fit begin and end, in seconds."""

    last: ClassVar["FitTimer"]  # of the most recent fit: under the command line, jsonargparse makes the instance

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start the clock, in the first hook of a fit."""
        FitTimer.last, self.started = self, time.perf_counter()
        self.step_starts: list[float] = []
        self.epoch_seconds: list[float] = []  # training only, without validation
        self.curve: list[tuple[float, float]] = []  # seconds since the start, in-scope validation accuracy
        self._epoch_started: float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start a second clock, after the sanity check."""
        self.training_started = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._device = pl_module.device
        self._epoch_started = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        self.step_starts.append(time.perf_counter())

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._record_epoch()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the epoch's training, unless a validation has done so before."""
        self._record_epoch()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            accuracy = float(trainer.callback_metrics["val/in_scope_accuracy"])
            self.curve.append((time.perf_counter() - self.started, accuracy))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clocks, after the last validation and checkpoint."""
        self.fit_seconds = time.perf_counter() - self.training_started
        self.num_epochs, self.num_steps = trainer.current_epoch, trainer.global_step

    @property
    def seconds_per_step(self) -> float:
        """Of the median epoch, its validation excluded."""
        return statistics.median(self.epoch_seconds) / (self.num_steps / self.num_epochs)

    def _record_epoch(self) -> None:
        if self._epoch_started is not None:
            if self._device.type == "cuda":  # kernels run asynchronously
                torch.cuda.synchronize()
            self.epoch_seconds.append(time.perf_counter() - self._epoch_started)
            self._epoch_started = None


def minimal_fit(
    model: L.LightningModule, data: L.LightningDataModule, *callbacks: L.Callback, **options: Any
) -> FitTimer:
    """A fit under a Trainer without logger, progress bar, model summary, checkpoints and validation.

    Args:
        model: to be trained.
        data: to train on.
        callbacks: in addition to the FitTimer.
        options: of the Trainer; they replace the defaults here.
    """
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    none = {"num_sanity_val_steps": 0, "limit_val_batches": 0}
    timer = FitTimer()
    with silence_lightning():
        L.Trainer(**{"accelerator": "cpu"} | off | none | options, callbacks=[timer, *callbacks]).fit(model, data)
    return timer


def cli_fit(*arguments: str, config: Path = CONFIG) -> FitTimer:
    """`python train.py fit --config configs/clinc150.yaml`, on a CPU and a terminal, in this process, without pictures.

    What is in memory before counts as imported, and is not searched for garbage, as in a process of its own.

    Args:
        arguments: further ones, as on the command line.
        config: another configuration.
    """
    with tempfile.TemporaryDirectory() as folder, fake_terminal(), redirect_stderr(StringIO()), silence_lightning():
        command = ["train.py", "fit", "--config", str(config), "--trainer.default_root_dir", f"{folder}/run"]
        timed = ["--trainer.accelerator", "cpu", "--trainer.callbacks+=benchmarks.fits.FitTimer"]
        timed += ["--figures.enabled", "false"]  # which no peer has; start_up measures them
        argv, sys.argv = sys.argv, [*command, *timed, *arguments]
        try:
            with threads(torch.get_num_threads()):  # train.py takes one
                train.load_main()()
        finally:
            sys.argv = argv
    return FitTimer.last


@contextmanager
def threads(number: int) -> Iterator[None]:
    """This many threads of a CPU, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def silence_lightning() -> Iterator[None]:
    """Silence warnings and Lightning's log messages."""
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
def fake_terminal() -> Iterator[None]:
    """Make standard output a terminal and discard what is written to it: Rich draws a progress bar only on one."""
    master, slave = pty.openpty()
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(slave, 1)
    os.close(slave)
    reader = Thread(target=_discard, args=(master,), daemon=True)
    reader.start()
    try:
        # A stream of its own: one that was opened on a file goes on asking for its position.
        with open(1, "w", encoding="utf-8", closefd=False) as terminal, redirect_stdout(terminal):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        reader.join(timeout=5)
        os.close(master)


def _discard(descriptor: int) -> None:
    try:
        while os.read(descriptor, 65536):
            pass
    except OSError:  # the other end is closed
        pass
