"""How a run writes its files: whole or not at all, and so that a resumed run goes on where it was."""

import csv
import io
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside its place, then move it there: a reader sees the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file with a header line, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_whole(path, text.getvalue())


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    # In the same folder, so that the move is one step of the file system, and a kill comes before or after it.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _linked(path: str, name: str) -> bool:
    """Give a file another name, in place of the file that has it; False where the file system cannot."""
    try:
        _replace(Path(name), lambda beside: os.link(path, beside))
    except OSError:
        return False
    return True


class CheckpointFiles(TorchCheckpointIO):
    """Checkpoints on disk: written whole or not at all, and read without ever running what is in them.

    Lightning writes a checkpoint to the system's temporary folder and moves it, which on another file system is a copy
    that a kill can cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it; the file that was there before stays whole if that fails.

        Raises:
            OSError: no room, or no permission.
        """
        if "://" in str(path):  # a bucket: objects appear there whole anyway
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, lambda beside: torch.save(checkpoint, beside))
        except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
            before = "the checkpoint before it is whole" if path.exists() else "there is none before it"
            raise OSError(f"cannot write {path}: {error}; {before}; make room and resume") from error

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read it with weights_only=True, whatever was asked for, from a local path or a URL."""
        return super().load_checkpoint(path, map_location=map_location, weights_only=True)


def validation_follows(trainer: L.Trainer) -> bool:
    """Whether there will be a validation, or the epoch's end, before the next batch.

    A checkpoint that is written before it would count it as done.
    """
    loop = trainer.fit_loop
    return trainer.is_last_batch or loop.epoch_loop._should_check_val_fx(loop._data_fetcher)  # type: ignore[arg-type]


class RunCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, for a run directory that may be moved, and a last.ckpt that is the last state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best so far, by its name within this run; in another run's directory start afresh."""
        here = Path(str(self.dirpath))
        best = here / Path(state_dict["best_model_path"]).name
        if not state_dict["best_model_path"] or not best.is_file():
            return
        moved = {
            "dirpath": str(here),
            "best_k_models": {str(here / Path(path).name): v for path, v in state_dict["best_k_models"].items()},
        }
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            moved[name] = str(here / Path(state_dict[name]).name) if state_dict[name] else ""
        super().load_state_dict(state_dict | moved)

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        """Save between batches, but not before a validation: a resume from there would skip it."""
        if not validation_follows(trainer):
            super().on_train_batch_end(trainer, *rest)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After a validation within an epoch write last.ckpt too, whether it was the best so far or not."""
        super().on_validation_end(trainer, pl_module)
        if not self._should_save_on_train_epoch_end(trainer):
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write last.ckpt also after an epoch that was not the best so far, which Lightning's own leaves out."""
        super().on_train_epoch_end(trainer, pl_module)
        self._save_last(trainer)

    def _save_last(self, trainer: L.Trainer) -> None:
        if self.save_last and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        # After a best epoch best.ckpt and last.ckpt hold the same: one file under two names. Neither is ever written
        # to, only replaced by a new file, so that the other one stays as it is.
        if self._last_global_step_saved == trainer.global_step and self._last_checkpoint_saved:
            linked = trainer.is_global_zero and _linked(self._last_checkpoint_saved, filepath)
            if trainer.strategy.broadcast(linked):
                return
        super()._save_checkpoint(trainer, filepath)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's own would write last.ckpt even in a dry run."""
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            super().on_train_end(trainer, pl_module)


class _SavesNowAndThen:
    """For a logger: write to the disk once a second, at every checkpoint, and at the end.

    Lightning asks for it after every point of a curve, where it would take as long as several steps.
    """

    _saved = -math.inf  # when

    def save(self) -> None:
        """Write what was logged since the last time, if that was a while ago."""
        if time.monotonic() - self._saved >= 1:
            self._save_now()

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """What a checkpoint builds on must not be lost with the process."""
        self._save_now()
        self._saved = -math.inf  # the points of its own step are logged only after it

    def finalize(self, status: str) -> None:
        """Write the rest."""
        self._saved = -math.inf
        super().finalize(status)  # type: ignore[misc]

    def _save_now(self) -> None:
        super().save()  # type: ignore[misc]
        self._saved = time.monotonic()


class TensorBoardCurves(_SavesNowAndThen, TensorBoardLogger):
    """TensorBoard events."""


class MetricsCSV(_SavesNowAndThen, CSVLogger):
    """metrics.csv, continued by a resumed run.

    Args:
        save_dir: the run directory.
        resumed_at: updates done when the run was resumed: earlier rows stay, later ones, which a killed run wrote
            after its last checkpoint, go, since they will be written again. None starts an empty file.
    """

    def __init__(self, save_dir: str, resumed_at: int | None = None) -> None:
        super().__init__(save_dir, name="", version="")
        path = Path(save_dir) / "metrics.csv"
        if resumed_at is not None and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                kept: list[Any] = [row for row in csv.DictReader(file) if int(row["step"] or 0) < resumed_at]
            self.experiment.metrics = kept  # creating the experiment has removed the file
            self.save()
