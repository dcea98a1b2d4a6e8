"""Files of a run: whole or not at all, and not written more often than anybody needs them."""

import os
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import CheckpointFiles, MetricsCSV, RunCheckpoint, TensorBoardCurves, run_files


class Falling(L.LightningModule):
    """Its one weight falls by 1 a step; its "loss" is given, epoch by epoch."""

    def __init__(self, losses):
        super().__init__()
        self.losses, self.weight = losses, torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        self.log("loss", self.losses[self.current_epoch], on_step=False, on_epoch=True, batch_size=1)
        return self.weight

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(folder, losses):
    """One step an epoch; best.ckpt is where `losses` is least."""
    checkpoint = RunCheckpoint(
        folder, filename="best", monitor="loss", save_last=True, enable_version_counter=False, save_top_k=1
    )
    off = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger"), False)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=len(losses), callbacks=[checkpoint], plugins=[CheckpointFiles()], **off
    )
    trainer.fit(Falling(losses), torch.utils.data.DataLoader(torch.zeros(1)))


def state(path):
    """Step and weight."""
    checkpoint = torch.load(path, weights_only=True)
    return checkpoint["global_step"], float(checkpoint["state_dict"]["weight"])


# Checkpoints


def test_the_best_epoch_s_state_is_written_once_under_both_names(tmp_path):
    fit(tmp_path, losses=[3.0, 2.0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert state(tmp_path / "best.ckpt") == state(tmp_path / "last.ckpt") == (2, -2.0)
    assert os.path.samefile(tmp_path / "best.ckpt", tmp_path / "last.ckpt")


def test_later_epochs_leave_the_best_one_s_file_alone(tmp_path):
    fit(tmp_path, losses=[3.0, 1.0, 2.0, 2.0])
    assert state(tmp_path / "best.ckpt") == (2, -2.0)
    assert state(tmp_path / "last.ckpt") == (4, -4.0)


def test_where_the_file_system_knows_no_second_names_both_are_written(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no hard links here")

    monkeypatch.setattr(run_files.os, "link", refuse)
    fit(tmp_path, losses=[3.0, 1.0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert state(tmp_path / "best.ckpt") == state(tmp_path / "last.ckpt") == (2, -2.0)
    assert not os.path.samefile(tmp_path / "best.ckpt", tmp_path / "last.ckpt")


# Curves


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which pass only when told to."""
    now = [100.0]
    monkeypatch.setattr(run_files, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def log_points(logger, clock, saved):
    """Log points as Lightning does; returns what `saved()` says after each, after a checkpoint, and at the end."""
    told = []
    for step, seconds in enumerate([0, 0.5, 0.6, 0.1]):
        clock[0] += seconds
        logger.log_metrics({"loss": 1.0}, step)
        logger.save()
        told.append(saved())
    logger.after_save_checkpoint(None)
    told.append(saved())
    for step in (4, 5):  # the first belongs to the step that was saved
        logger.log_metrics({"loss": 1.0}, step)
        logger.save()
        told.append(saved())
    logger.finalize("failed")  # an exception came
    return [*told, saved()]


def test_metrics_csv_is_written_once_a_second_at_a_checkpoint_and_at_the_end(tmp_path, clock):
    def on_disk():
        return [line.split(",")[-1] for line in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]

    logger = MetricsCSV(str(tmp_path))
    first, third, fifth = ["0"], ["0", "1", "2"], ["0", "1", "2", "3", "4"]
    assert log_points(logger, clock, on_disk) == [first, first, third, third, fifth[:4], fifth, fifth, [*fifth, "5"]]


def test_tensorboard_is_flushed_once_a_second_at_a_checkpoint_and_at_the_end(tmp_path, clock, monkeypatch):
    logger, flushed = TensorBoardCurves(str(tmp_path), name="", version=""), []
    flush = logger.experiment.flush
    monkeypatch.setattr(logger.experiment, "flush", lambda: (flushed.append(clock[0]), flush()))
    assert [len(set(times)) for times in log_points(logger, clock, lambda: list(flushed))] == [1, 1, 2, 2, 3, 3, 3, 3]
    assert len(flushed) > 3  # at the end
    points = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [point.step for point in points] == [0, 1, 2, 3, 4, 5]
