"""Loggers that write to the disk once a second and that a resumed run continues."""

import csv
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from callbacks.files import replacing, write_then_rename
from callbacks.run.checkpoint_io import PENDING


def logged_steps(checkpoint: Mapping[str, Any]) -> int:
    """The step that loggers count from after a checkpoint: batches, in which several optimizers make a step each."""
    if not (loop := checkpoint.get("loops", {}).get("fit_loop")):  # weights alone
        return int(checkpoint.get("global_step", 0))
    # A step is counted after the callbacks and the validation that follow it, both of which save.
    epochs, batches = (loop[name]["total"] for name in ("epoch_progress", "epoch_loop.batch_progress"))
    within_epoch = epochs["started"] > epochs["processed"] and batches["ready"] == batches["processed"]
    steps = within_epoch and not checkpoint.get(PENDING)
    return int(loop["epoch_loop.state_dict"]["_batches_that_stepped"] + steps)


class ThrottledSave(Logger):
    """Writes at most once a second, but always before a checkpoint and at the end.

    Lightning calls `save` after every logged step, which costs more than the step.
    """

    _written = -math.inf  # time of the last write
    _last_point: tuple[int | None, dict[str, Any]] | None = None

    def save(self) -> None:
        if time.monotonic() - self._written >= 1:
            self._write()
            self._written = time.monotonic()

    def flush(self) -> None:
        """Write now: what a checkpoint builds on must be on the disk before it, or a resume has a gap in its curves."""
        self._write()
        self._written = -math.inf  # metrics of the epoch that ends with the checkpoint follow it: write without delay

    def is_repeated(self, metrics: Mapping[str, Any], step: int | None) -> bool:
        """Whether this point was the last one logged; a checkpoint logs its own step before Lightning does."""
        last, self._last_point = self._last_point, (step, dict(metrics))
        return last == self._last_point

    def finalize(self, status: str) -> None:
        self._written = -math.inf
        super().finalize(status)

    def _write(self) -> None:
        raise NotImplementedError


class ThrottledTensorBoardLogger(ThrottledSave, TensorBoardLogger):
    """TensorBoard events, flushed once a second; the file begins with the first event, after any refusal to resume."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = _lazy_writer(self.log_dir, **self._kwargs)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if not self.is_repeated(metrics, step):
            self.experiment._get_file_writer()  # below, Lightning makes another error of a full disk
            super().log_metrics(dict(metrics), step)

    @rank_zero_only
    def _write(self) -> None:
        # Lightning would write the file in place, and only if it is not there: a kill would leave it cut for ever.
        path = Path(self.log_dir, self.NAME_HPARAMS_FILE)
        if not path.is_file():
            write_then_rename(path, lambda temporary: save_hparams_to_yaml(temporary, self.hparams))
        TensorBoardLogger.save(self)


class EvaluationBoard(ThrottledTensorBoardLogger):
    """TensorBoard events of a test: in a folder of their own, in place of those of an earlier test."""

    def __init__(self, run: str) -> None:
        # No name and version, by which Lightning would name the folder of checkpoints.
        super().__init__(run, name="", version="", sub_dir="test", default_hp_metric=False)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            for earlier in Path(self.log_dir).glob("events.out.tfevents.*"):
                earlier.unlink()
        return super().experiment

    @rank_zero_only
    def _write(self) -> None:
        self.experiment.flush()


class ResumableCSVLogger(ThrottledSave, CSVLogger):
    """Lightning's CSVLogger, which also goes on with a metrics.csv that is there.

    The file is only ever appended to or replaced whole, so a kill costs at most the line being appended, and the next
    resume drops that.

    Args:
        save_dir: the run directory.
        resumed_at: number of updates done when the run was resumed; rows from that step on, which the resumed run logs
            again, are dropped at the first write. None starts a new file.
    """

    def __init__(self, save_dir: str, resumed_at: int | None = None) -> None:
        super().__init__(save_dir, name="", version="")
        self.path = Path(save_dir) / "metrics.csv"
        self.resumed_at = resumed_at
        self._columns: list[str] = []  # of the file; none before the first write
        self._rows: list[dict[str, Any]] = []  # logged since the last write

    @property
    def experiment(self) -> Any:
        """Takes and drops what a model draws on each of its loggers, such as `add_image` of TensorBoard's."""
        return _DummyExperiment()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if self.is_repeated(metrics, step):
            return
        values = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self._rows.append(values | {"step": len(self._rows) if step is None else step})

    def finalize(self, status: str) -> None:
        self.flush()

    @rank_zero_only
    def _write(self) -> None:
        if not self._rows:
            return
        if set().union(*self._rows) <= set(self._columns):
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerows(self._rows)
        else:  # a new metric, or the first write
            rows = [*self._rows_to_keep(), *self._rows]
            columns = sorted(set().union(*rows))
            with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(rows)
            self._columns = columns
        self._rows = []

    def _rows_to_keep(self) -> list[dict[str, Any]]:
        if not self._columns and (self.resumed_at is None or not self.path.is_file()):
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(line for line in file if line.endswith("\n")))  # a kill may leave half a line
        return rows if self._columns else [row for row in rows if int(row["step"]) < (self.resumed_at or 0)]


def _lazy_writer(log_dir: str, **options: Any) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # slow to import, so not at the top

    class LazyWriter(SummaryWriter):
        is_made = False

        def _get_file_writer(self) -> Any:
            return super()._get_file_writer() if self.is_made else None

    writer = LazyWriter(log_dir=log_dir, **options)
    writer.is_made = True
    return writer
