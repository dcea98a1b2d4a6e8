"""Callbacks of Lightning: refused where they would harm a run, early stops that a resume keeps, the rate as `lr`."""

import re
from pathlib import Path
from typing import Any

import lightning as L
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
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from callbacks.run.checkpoints import own_checkpoint

OWN_NAME = re.compile(r"(best|last|(epoch|step)_\d+)\.ckpt")
REFUSED = {
    StochasticWeightAveraging: "averages after the last checkpoint, so that no file holds the average: use "
    "EMAWeightAveraging or WeightAveraging, which save it"
}
SEARCHES = "cannot be resumed: it searches anew at every start: leave it out, and give what it has found as an option"
REFUSED_ON_RESUME = {
    BatchSizeFinder: SEARCHES,
    LearningRateFinder: SEARCHES,
    BaseFinetuning: "cannot be resumed: it would leave the weights frozen that it had unfrozen: start a new run",
    SpikeDetection: "cannot be resumed: it does not take back which losses it has seen: leave it out",
    ModelPruning: "cannot be resumed: it does not keep its masks, and pruned weights would grow again: start a new run",
}


def refuse_stateless(trainer: Any, resumes: bool) -> None:
    """Refuse a callback whose work no checkpoint holds, and on a resume one whose state Lightning does not restore.

    Raises:
        ValueError: names the callback, and what to do.
    """
    refused = REFUSED | REFUSED_ON_RESUME if resumes else REFUSED
    for callback in trainer.callbacks:
        for kind, reason in refused.items():
            if isinstance(callback, kind):
                raise ValueError(f"trainer.callbacks: {type(callback).__name__} {reason}")


def refuse_own_names(trainer: Any) -> None:
    """Refuse, before the fit too, another callback that would write checkpoints under the names of the run's own.

    Raises:
        ValueError: names the callback and the file.
    """
    own, folder = own_checkpoint(trainer), Path(trainer.default_root_dir, "checkpoints").resolve()
    for other in trainer.checkpoint_callbacks:
        paths: list[Path] = []
        if isinstance(other, OnExceptionCheckpoint):
            paths = [Path(other.ckpt_path)]
        elif isinstance(other, ModelCheckpoint) and other is not own:
            templates = [other.filename, *([other.CHECKPOINT_NAME_LAST] if other.save_last else [])]
            place = Path(other._ModelCheckpoint__resolve_ckpt_dir(trainer))  # type: ignore[attr-defined]
            paths = [place / other.format_checkpoint_name({}, template) for template in templates]
        for path in paths:
            if OWN_NAME.fullmatch(path.name) and path.parent.resolve() == folder:
                raise ValueError(
                    f"trainer.callbacks: {type(other).__name__} would write {path.name} into {folder}, where every run "
                    "writes best.ckpt and last.ckpt: give it another filename (or save_last), or a dirpath"
                )


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
    patience than before, or another threshold, lets it train on. Callbacks that the model adds are checked here too.
    """

    def __init__(self) -> None:
        self._patience: dict[EarlyStopping, int] = {}

    def setup(self, trainer: Any, pl_module: L.LightningModule, stage: str) -> None:
        self._patience = {callback: callback.patience for callback in trainer.early_stopping_callbacks}

    def on_fit_start(self, trainer: Any, pl_module: L.LightningModule) -> None:
        refuse_own_names(trainer)

    def on_load_checkpoint(self, trainer: Any, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # At step 0 a BatchSizeFinder or LearningRateFinder puts back what it has saved before its search.
        if trainer.state.fn == "fit":
            refuse_stateless(trainer, resumes=checkpoint["global_step"] > 0)

    def on_train_start(self, trainer: Any, pl_module: L.LightningModule) -> None:
        for callback, patience in self._patience.items():
            callback.patience = patience  # Lightning takes the checkpoint's
            message = str(callback.stopping_reason_message)
            goes_on = {
                EarlyStoppingReason.NOT_STOPPED: True,
                EarlyStoppingReason.PATIENCE_EXHAUSTED: callback.wait_count < patience,
                EarlyStoppingReason.STOPPING_THRESHOLD: f" {callback.stopping_threshold}. " not in message,
                EarlyStoppingReason.DIVERGENCE_THRESHOLD: f" {callback.divergence_threshold}. " not in message,
                EarlyStoppingReason.NON_FINITE_METRIC: not callback.check_finite,
            }
            if goes_on[callback.stopping_reason]:
                callback.stopping_reason, callback.stopped_epoch = EarlyStoppingReason.NOT_STOPPED, 0
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
