"""Model checkpoints of a run: which state is best.ckpt, and which is last.ckpt."""

import shutil
from pathlib import Path
from typing import Any, Literal
from weakref import proxy

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from callbacks.run.checkpoint_io import PENDING, as_loadable, write_checkpoint
from callbacks.run.loggers import ThrottledSave
from callbacks.run.monitors import AUTO, require_logged, validation_loss
from callbacks.terminal import four_digits


def validates_before_next_batch(trainer: L.Trainer) -> bool:
    """Whether a validation, or the end of the epoch, comes before the next batch: a resume from here would skip it.

    A validation that is only there because the run is about to stop does not count.
    """
    loop, stops = trainer.fit_loop, trainer.should_stop
    trainer.should_stop = False
    try:
        return trainer.is_last_batch or loop.epoch_loop._should_check_val_fx(loop._data_fetcher)  # type: ignore[arg-type]
    finally:
        trainer.should_stop = stops


def stops_within_epoch(trainer: L.Trainer) -> bool:
    """Whether max_steps, max_time or a callback ends the fit after this batch, although the epoch has more."""
    stops = (trainer.should_stop and trainer.fit_loop._can_stop_early) or trainer.global_step == trainer.max_steps
    return stops and not trainer.is_last_batch


def has_pending_gradients(trainer: L.Trainer) -> bool:
    """Whether gradients of this batch wait for a later one to step the optimizer: no checkpoint holds them."""
    if trainer.lightning_module.automatic_optimization:
        return trainer.fit_loop.epoch_loop._should_accumulate()
    own = own_checkpoint(trainer)
    return bool(trainer.optimizers) and own is not None and own.step_before_batch == trainer.global_step


def own_checkpoint(trainer: L.Trainer) -> "RelocatableModelCheckpoint | None":
    """The one that writes best.ckpt; `trainer.checkpoint_callback` is the first of all, and may be the user's."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, RelocatableModelCheckpoint)), None)


class RelocatableModelCheckpoint(ModelCheckpoint):
    """Keeps a run's best state in checkpoints/best.ckpt and its last in checkpoints/last.ckpt.

    Both are written at the end of every epoch and after every validation within one; last.ckpt only where no gradient
    waits for further batches (accumulate_grad_batches). A state is compared with the best so far if it was validated,
    or if the run has no validation at all; a value that is not finite is never the best. The run directory may be moved
    before a resume, because a checkpoint names the others without their folder.

    Args:
        monitor: name of the logged metric that decides which state is the best; auto takes val/loss, or else the one
            loss that the validation logs; null takes the last state, as Lightning does, for a fit without validation.
        mode: whether the smallest or the largest value is the best.
        save_top_k: keeps so many of the best states, -1 all of them, also under names such as epoch_00012.ckpt (after
            12 epochs) or step_00000340.ckpt (within one). With 1 there are only best.ckpt and last.ckpt.
        every_n_train_steps: writes last.ckpt also every so many updates.

    Raises:
        ValueError: an argument is out of range; from the hooks, `monitor` is not logged, or a state cannot be saved.
    """

    # Lightning's hooks and state are replaced; its best_model_path, best_model_score and last_model_path are kept.

    def __init__(
        self,
        monitor: str | None = AUTO,
        mode: Literal["min", "max"] = "min",
        save_top_k: int = 1,
        every_n_train_steps: int | None = None,
    ) -> None:
        if save_top_k in (0, None):  # Lightning refuses less than -1
            raise ValueError(f"expected save_top_k of at least 1, or -1 for all, got {save_top_k}")
        super().__init__(monitor=monitor, mode=mode, save_top_k=save_top_k)
        self.every_n_train_steps = every_n_train_steps
        self.best_state = ""  # such as "epoch 12"
        self.best_metrics: dict[str, float] = {}  # of that state, those that the model shows on the progress bar
        self.step_before_batch = -1
        self._saved_step = self._validated_step = 0  # a run that has taken no step saves nothing
        self._is_due = self._stops = False  # a save and a stop that wait for the optimizer's step
        self._lacks_monitor = False
        self._logged_before: set[str] = set()  # the validation

    @property
    def state_key(self) -> str:
        return type(self).__name__

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.dirpath = trainer.strategy.broadcast(str(Path(trainer.default_root_dir, "checkpoints")))

    # How a resumed run goes on

    def state_dict(self) -> dict[str, Any]:
        """The scores by file name, without the folder."""
        state = {"monitor": self.monitor, "mode": self.mode, "best": self.best_model_score}
        kept = {Path(path).name: score for path, score in self.best_k_models.items()}
        return state | {"best_state": self.best_state, "best_metrics": self.best_metrics, "kept": kept}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse, with a ValueError, a fit that would lose gradients, or a best.ckpt that was chosen otherwise."""
        if trainer.state.fn != "fit":
            return
        if checkpoint.get(PENDING):
            raise ValueError(
                "this checkpoint was written while gradients waited for further batches (accumulate_grad_batches), and "
                "holds none of them: go on from last.ckpt"
            )
        states = checkpoint["callbacks"]
        for other in trainer.checkpoint_callbacks:  # before each takes its state
            if isinstance(other, ModelCheckpoint) and other is not self and other.state_key in states:
                states[other.state_key] = _in_folder(states[other.state_key], str(other.dirpath))
        if not self._path("best.ckpt").is_file():
            return
        state = states.get(self.state_key) or {}
        before, mode = state.get("monitor", AUTO), state.get("mode")
        if self.monitor == AUTO:
            self.monitor = before
        if (before, mode) != (self.monitor, self.mode):
            raise ValueError(
                f"best.ckpt of this run was chosen by monitor {before} ({mode}), the options say {self.monitor} "
                f"({self.mode}): give --checkpoint.monitor and --checkpoint.mode as before, or start a new run from a "
                "copy of last.ckpt"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the best so far; start afresh in another run's directory."""
        if self._path("best.ckpt").is_file() and state_dict["best"] is not None:
            self.best_model_path, self.best_model_score = str(self._path("best.ckpt")), state_dict["best"]
            self.best_state, self.best_metrics = state_dict["best_state"], state_dict.get("best_metrics", {})
            # By name alone, as those that are no longer among the best are deleted.
            kept = {self._path(Path(name).name): score for name, score in state_dict["kept"].items()}
            self.best_k_models = {str(path): score for path, score in kept.items() if path.is_file()}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == "fit" and has_pending_gradients(trainer):
            checkpoint[PENDING] = True

    # When a state is saved

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._choose_monitor(trainer)
        require_logged(trainer, self, of_validation=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse what could not be saved, before an epoch is spent on it."""
        as_loadable(trainer._checkpoint_connector.dump_checkpoint(weights_only=False))

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.step_before_batch = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        if self._waits_for_step(trainer):
            return
        every = self.every_n_train_steps
        due = bool(every and trainer.global_step % every == 0)
        # At the end of an epoch that was cut short Lightning counts it as done, and a resume would skip its rest.
        due = due or self._is_due or stops_within_epoch(trainer)
        # A validation between two steps may write best.ckpt, and a run with that alone could not be resumed.
        due = due or (trainer.accumulate_grad_batches > 1 and not self.last_model_path)
        is_saved = trainer.global_step == self._saved_step or trainer.fast_dev_run  # type: ignore[attr-defined]
        if due and not is_saved and not validates_before_next_batch(trainer):
            # Lightning logs this step's metrics only after this hook; a kill in between would lose them.
            trainer._logger_connector.update_train_step_metrics()
            self._save(trainer, ["last.ckpt"])

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._logged_before = set(trainer.callback_metrics)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save after a validation within an epoch; after the epoch's last batch, `on_train_epoch_end` does."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._choose_monitor(trainer)
            self._validated_step = trainer.global_step
            if not trainer.is_last_batch:
                self._save_and_rank(trainer, "step", trainer.global_step, self._waits_for_step(trainer))
                require_logged(trainer, self, of_validation=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save_and_rank(trainer, "epoch", trainer.current_epoch + 1)
        if trainer.fast_dev_run or self._is_validated(trainer):  # type: ignore[attr-defined]
            require_logged(trainer, self)  # only now, so that a resume with another monitor loses nothing

    def _waits_for_step(self, trainer: L.Trainer) -> bool:
        """Whether gradients are pending, so that a stop has to wait for the batch that steps with them."""
        waits = has_pending_gradients(trainer)
        if waits and trainer.should_stop and trainer.fit_loop._can_stop_early:
            trainer.should_stop, self._stops = False, True
        elif self._stops and not waits:
            trainer.should_stop, self._stops = True, False
        return waits

    def _save_and_rank(self, trainer: L.Trainer, unit: str, number: int, waits: bool = False) -> None:
        """Save under the names that this state deserves; under last.ckpt too, unless gradients are pending."""
        saved = 0 if waits else self._saved_step  # with last.ckpt alone, before a validation between two steps
        if trainer.fast_dev_run or trainer.global_step == saved:  # type: ignore[attr-defined]
            return
        names = [*self._rank(trainer, unit, number), *([] if waits else ["last.ckpt"])]
        self._is_due |= waits
        if names:
            self._save(trainer, names)
        while len(self.best_k_models) > self.save_top_k > 0:
            worst = (max if self.mode == "min" else min)(self.best_k_models, key=self.best_k_models.__getitem__)
            del self.best_k_models[worst]
            if trainer.is_global_zero:
                Path(worst).unlink(missing_ok=True)

    def _save(self, trainer: L.Trainer, names: list[str]) -> None:
        first, *others = map(self._path, names)
        for logger in trainer.loggers:
            if isinstance(logger, ThrottledSave):
                logger.flush()
        trainer.save_checkpoint(first, weights_only=False)
        if "last.ckpt" in names:
            self._saved_step, self.last_model_path = trainer.global_step, str(self._path("last.ckpt"))
            self._is_due = False
        if not trainer.is_global_zero:
            return
        # Copies, not hard links: overwriting one file in place must not change the other. Half as long as saving.
        for other in others:
            write_checkpoint(other, lambda temporary: shutil.copyfile(first, temporary))
        for logger in trainer.loggers:
            logger.after_save_checkpoint(proxy(self))

    def _path(self, name: str) -> Path:
        return Path(str(self.dirpath), name)

    # Which state is the best

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Without a monitor the last state is the best, once there is one: that of an interrupted fit is no result."""
        last, best = self._path("last.ckpt"), self._path("best.ckpt")
        if self.monitor is None and last.is_file() and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.best_model_path = str(best)
            if trainer.is_global_zero:
                write_checkpoint(best, lambda temporary: shutil.copyfile(last, temporary))

    on_fit_end = on_train_end  # of a resume that finds all epochs done

    def describe_best(self) -> str:
        """Which state best.ckpt holds, in one line, with the metric that decided and those on the progress bar."""
        if self.monitor is None:
            return "best.ckpt: the last state"
        if self.monitor == AUTO:
            return "no best.ckpt: checkpoint.monitor auto found no loss of a validation; last.ckpt has the last state"
        if self.best_model_score is None:
            return f"no best.ckpt: {self.monitor} was never logged, or never finite; last.ckpt has the last state"
        metrics = {self.monitor: float(self.best_model_score)} | self.best_metrics
        return f"best.ckpt: {self.best_state}, {', '.join(f'{name} {four_digits(v)}' for name, v in metrics.items())}"

    def _choose_monitor(self, trainer: L.Trainer) -> None:
        if self.monitor != AUTO or self._lacks_monitor:
            return
        logged = set(trainer.callback_metrics) - self._logged_before
        if trainer.sanity_checking and not logged and len(trainer.num_sanity_val_batches) > 1:
            return  # of several loaders Lightning keeps no metrics in its sanity check
        self.monitor = validation_loss(logged) or AUTO
        if self.monitor == AUTO:
            self._lacks_monitor = True
            found = ", ".join(sorted(logged)) or "nothing"
            rank_zero_only(print)(
                f"checkpoint.monitor auto: expected one loss of the validation, got {found}; no best.ckpt is written, "
                "last.ckpt alone: name a metric with --checkpoint.monitor"
            )

    def _rank(self, trainer: L.Trainer, unit: str, number: int) -> list[str]:
        """The names that a state deserves beside last.ckpt; `unit` and `number` are such as "epoch" and 12."""
        if self.monitor is None:
            self.best_state = f"{unit} {number}"
            return []
        score, best = self._score(trainer), self.best_model_score
        if score is None:
            return []
        names = []
        if best is None or (score < best if self.mode == "min" else score > best):
            self.best_model_path, self.best_model_score = str(self._path("best.ckpt")), score
            self.best_state = f"{unit} {number}"
            shown = trainer.progress_bar_metrics.items()
            self.best_metrics = {name: float(value) for name, value in shown if not name.endswith("_step")}
            names.append("best.ckpt")
        if self.save_top_k != 1:
            names.append(f"epoch_{number:05d}.ckpt" if unit == "epoch" else f"step_{number:08d}.ckpt")
            self.best_k_models[str(self._path(names[-1]))] = score
        return names

    def _score(self, trainer: L.Trainer) -> Tensor | None:
        """The monitored value of this state; None if it was not validated or logged, or the value is not finite."""
        metrics = trainer.callback_metrics
        validates = trainer.enable_validation and any(trainer.num_val_batches)
        if (validates and not self._is_validated(trainer)) or self.monitor not in metrics:
            return None
        # Processes must take the same decision, even where each logs a value of its own.
        score = torch.tensor(trainer.strategy.broadcast(float(metrics[self.monitor])), dtype=torch.float64)
        return score if score.isfinite() else None

    def _is_validated(self, trainer: L.Trainer) -> bool:
        return any(trainer.num_val_batches) and self._validated_step == trainer.global_step


def _in_folder(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """The state of a ModelCheckpoint of Lightning's, which deletes the files that it names, in a run that was moved."""
    own = {path.name: str(path) for path in Path(folder).glob("*")}
    paths = {name: own.get(Path(path).name, "") for name, path in state.items() if name.endswith("_model_path")}
    kept = {own[Path(path).name]: score for path, score in state["best_k_models"].items() if Path(path).name in own}
    return state | paths | {"best_k_models": kept, "dirpath": folder}
