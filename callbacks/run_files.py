"""How a run writes its files: whole or not at all, and so that a resumed run goes on where it was."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger


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
        """Save between batches, but not after an epoch's last one: a resume from there would skip its validation."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *rest)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write last.ckpt also after an epoch that was not the best so far, which Lightning's own leaves out."""
        super().on_train_epoch_end(trainer, pl_module)
        if self.save_last and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning's own would write last.ckpt even in a dry run."""
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            super().on_train_end(trainer, pl_module)


class MetricsCSV(CSVLogger):
    """metrics.csv, flushed at every checkpoint, and continued by a resumed run.

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

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """What a checkpoint builds on must not be lost with the process."""
        self.save()
