"""Callbacks of Lightning in a run: refused, kept apart, stopped for good, and unfinished epochs after a resume."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.seed import _collect_rng_states, _set_rng_states
from lightning.fabric.utilities.types import _Stateful
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.callbacks.spike import SpikeDetection
from lightning.pytorch.loops.fit_loop import RestartStage
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from callbacks.run.checkpoints import own_checkpoint

OWN_NAME = re.compile(r"(best|last|(epoch|step)_\d+)\.ckpt")

REFUSED = {
    StochasticWeightAveraging: "averages after the last checkpoint, so that no file holds the average: use "
    "EMAWeightAveraging or WeightAveraging, which save it"
}
REFUSED_ON_RESUME = (BaseFinetuning, BatchSizeFinder, LearningRateFinder, ModelPruning, SpikeDetection)
NO_STATE = "cannot be resumed: it keeps no state: leave it out, with what it found as an option, or start a new run"


def refuse_stateless(trainer: Any, resumes: bool) -> None:
    """Refuse, with a ValueError, callbacks whose work no checkpoint holds, or whose state no resume restores."""
    refused = REFUSED | dict.fromkeys(REFUSED_ON_RESUME if resumes else (), NO_STATE)
    for callback in trainer.callbacks:
        for kind, reason in refused.items():
            if isinstance(callback, kind):
                raise ValueError(f"trainer.callbacks: {type(callback).__name__} {reason}")


def refuse_own_names(trainer: Any) -> None:
    """Refuse, with a ValueError, another callback that would write the run's own best.ckpt or last.ckpt."""
    own, folder = own_checkpoint(trainer), Path(trainer.default_root_dir, "checkpoints").resolve()
    for other in trainer.checkpoint_callbacks:
        paths: list[Path] = []
        if isinstance(other, OnExceptionCheckpoint):
            paths = [Path(other.ckpt_path)]
        elif isinstance(other, ModelCheckpoint) and other is not own and other.dirpath is not None:
            templates = [other.filename, *([other.CHECKPOINT_NAME_LAST] if other.save_last else [])]
            paths = [Path(other.dirpath, other.format_checkpoint_name({}, template)) for template in templates]
        for path in paths:
            if OWN_NAME.fullmatch(path.name) and path.parent.resolve() == folder:
                raise ValueError(
                    f"trainer.callbacks: {type(other).__name__} would write {path.name} into {folder}, where every run "
                    "writes best.ckpt and last.ckpt: give it another filename or dirpath"
                )


class CheckpointFolder(L.Callback):
    """Lets other ModelCheckpoints write into checkpoints/callbacks, where no last.ckpt of theirs replaces the run's."""

    def setup(self, trainer: Any, pl_module: L.LightningModule, stage: str) -> None:
        refuse_own_names(trainer)  # again: the model may have added some
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(Path(trainer.default_root_dir, "checkpoints", "callbacks"))


class EpochRestart(L.Callback):
    """On a resume within an epoch: at its batch if the loaders can go on there, else from the epoch's first batch.

    By itself Lightning would train a mere rest of the epoch, on the loaders' first batches. A loader goes on at its
    batch if it has `state_dict` and `load_state_dict`, as those of BatchedDataModule. Else checkpoints keep the rates
    of the epoch's start, from where the schedulers go on, so that a schedule over a number of steps is not overrun.
    """

    def __init__(self) -> None:
        self._schedule: dict[str, Any] = {}  # at the epoch's start

    def state_dict(self) -> dict[str, Any]:
        return self._schedule

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._schedule = state_dict

    def on_save_checkpoint(self, trainer: Any, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.fit_loop._combined_loader is not None and not _can_go_on(trainer):
            # Beside a loader that begins again none may go on: their batches would not be those of an epoch.
            checkpoint["loops"]["fit_loop"]["state_dict"].pop("combined_loader", None)

    def on_train_epoch_start(self, trainer: Any, pl_module: L.LightningModule) -> None:
        if not _can_go_on(trainer):
            schedulers = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
            rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers]
            self._schedule = deepcopy({"schedulers": schedulers, "rates": rates})

    def on_train_start(self, trainer: Any, pl_module: L.LightningModule) -> None:
        loop, batches, epochs = trainer.fit_loop, trainer.fit_loop.epoch_loop, trainer.fit_loop.epoch_progress
        if not loop.restarted_mid_epoch or batches.batch_progress.is_last_batch:
            return
        if _can_go_on(trainer):
            if loop._combined_loader_states_to_load:  # configure_optimizers asked for the loaders before there were any
                loop._load_combined_loader_states()
                iter(loop._data_fetcher)
            return
        rank_zero_only(print)(
            f"epoch {trainer.current_epoch + 1} begins again, after {batches.batch_progress.current.ready} of its "
            "batches: its loader has no state_dict to go on by, as those of BatchedDataModule have"
        )
        if not batches._should_accumulate() and not batches.restarted_on_last:
            batches._batches_that_stepped += 1  # as Lightning does on a restart, which this one no longer is
        for config, state in zip(trainer.lr_scheduler_configs, self._schedule.get("schedulers", []), strict=False):
            config.scheduler.load_state_dict(state)
        for optimizer, rates in zip(trainer.optimizers, self._schedule.get("rates", []), strict=False):
            for group, rate in zip(optimizer.param_groups, rates, strict=False):
                group["lr"] = rate
        batches.batch_progress.total.completed = batches.batch_progress.total.processed
        batches.restarting = False
        epochs.total.started -= 1
        epochs.current.started -= 1
        loop._restart_stage = RestartStage.RESTARTED_ON_EPOCH_START


class KeepUnsaved(L.Callback):
    """Keeps what Lightning leaves out of checkpoints: random numbers, and the steps of ReduceLROnPlateau.

    The generators of torch (on the CPU and the first process's GPU), numpy and Python go on after a resume: dropout's,
    a shuffled DataLoader's, a user's own. ReduceLROnPlateau is stepped only after the callbacks that save, by metrics
    that no checkpoint holds, and by itself not at all at the end of an epoch that was resumed in its midst.
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None  # of the generators, until the first batch after a resume
        self._metrics: dict[str, float] = {}

    def on_save_checkpoint(self, trainer: Any, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        state = _collect_rng_states(include_cuda=False)
        state["numpy"] = tuple(part.tolist() if isinstance(part, np.ndarray) else part for part in state["numpy"])
        if trainer.strategy.root_device.type == "cuda":
            state["cuda"] = [torch.cuda.get_rng_state()]
        monitored = {config.monitor for config in trainer.lr_scheduler_configs if config.reduce_on_plateau}
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name in monitored}
        checkpoint |= {"random_state": state, "plateau_metrics": metrics}

    def on_load_checkpoint(self, trainer: Any, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._state, self._metrics = checkpoint.get("random_state"), checkpoint.get("plateau_metrics", {})
        self._go_on()  # before the loaders are asked for the next epoch, which draws numbers

    def on_train_start(self, trainer: Any, pl_module: L.LightningModule) -> None:
        loop, epochs = trainer.fit_loop, trainer.fit_loop.epoch_progress.current
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self._metrics.items()})
        if loop.restarted_mid_epoch and loop.epoch_loop.restarted_on_train_batch_end:
            loop.epoch_loop.update_lr_schedulers("step", update_plateau_schedulers=True)
        if loop.resumed_on_epoch_end or loop.restarted_on_epoch_end:
            epochs.completed -= 1  # as at that epoch's end; a scheduler's frequency counts by it
            loop.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)
            epochs.completed += 1

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.fit_loop.restarted_mid_epoch:  # whose loaders had been asked before the checkpoint
            self._go_on()
        self._state = None

    def on_train_epoch_end(self, trainer: Any, pl_module: L.LightningModule) -> None:
        if not trainer.fit_loop.restarted_on_epoch_end:  # which had been stepped as the training started
            trainer.fit_loop._restarting = False  # else Lightning leaves out ReduceLROnPlateau

    def _go_on(self) -> None:
        if self._state is not None:
            _set_rng_states({name: state for name, state in self._state.items() if name != "cuda"})
            if "cuda" in self._state and torch.cuda.is_available():
                torch.cuda.set_rng_state(self._state["cuda"][0])


def _can_go_on(trainer: Any) -> bool:
    return all(isinstance(loader, _Stateful) for loader in trainer.fit_loop._combined_loader.flattened)


class RateMonitor(LearningRateMonitor):
    """Lightning's; `lr-SGD` of a single optimizer is `lr`, and so is its part in names such as `lr-SGD/pg1`."""

    def on_train_start(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        self._is_single = len(trainer.optimizers) == 1
        super().on_train_start(trainer, *args, **kwargs)

    def _add_prefix(self, name: str, optimizer_cls: Any, seen_optimizer_types: Any) -> str:
        name = super()._add_prefix(name, optimizer_cls, seen_optimizer_types)
        return "lr" if self._is_single and name == f"lr-{optimizer_cls.__name__}" else name


class KeepEarlyStop(L.Callback):
    """Ends a resumed fit at once where EarlyStopping had ended it; by itself Lightning trains for one epoch more.

    So a run that was killed after its last epoch, over its pictures, ends with the weights of an unbroken one. More
    patience than before lets it train on.
    """

    def __init__(self) -> None:
        self._patience: dict[EarlyStopping, int] = {}

    def setup(self, trainer: Any, pl_module: L.LightningModule, stage: str) -> None:
        self._patience = {callback: callback.patience for callback in trainer.early_stopping_callbacks}

    def on_load_checkpoint(self, trainer: Any, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # At step 0 a BatchSizeFinder or LearningRateFinder puts back what it has saved before its search.
        if trainer.state.fn == "fit":
            refuse_stateless(trainer, resumes=checkpoint["global_step"] > 0)

    def on_train_start(self, trainer: Any, pl_module: L.LightningModule) -> None:
        for callback, patience in self._patience.items():
            callback.patience = patience  # Lightning takes the checkpoint's
            is_patient = callback.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED
            if is_patient and callback.wait_count < patience:
                callback.stopping_reason, callback.stopped_epoch = EarlyStoppingReason.NOT_STOPPED, 0
            if callback.stopping_reason == EarlyStoppingReason.NOT_STOPPED:
                continue
            trainer.should_stop = True
            if trainer.fit_loop._can_stop_early:  # otherwise min_epochs or min_steps lets it train
                rank_zero_only(print)(
                    f"EarlyStopping had ended this run after epoch {callback.stopped_epoch + 1}: nothing to train; "
                    "to go on nevertheless, give it more patience or leave it out of trainer.callbacks"
                )
        if trainer.fit_loop.restarted_mid_epoch:  # Lightning leaves this hook out
            for callback in trainer.callbacks:
                if isinstance(callback, GradientAccumulationScheduler):
                    callback.on_train_epoch_start(trainer, pl_module)
