"""Curves are written once a second, at every checkpoint and at the end; a resumed run continues them."""

import csv
import os
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.run import loggers
from callbacks.run.loggers import ResumableCSVLogger, ThrottledTensorBoardLogger

# Throttled


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which pass only where a test adds some."""
    now = [100.0]
    monkeypatch.setattr(loggers, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def log_points(logger, clock, saved):
    """Log points as Lightning does; returns `saved()` after each, after a checkpoint, and at the end."""
    found = []
    for step, seconds in enumerate([0, 0.5, 0.6, 0.1]):
        clock[0] += seconds
        logger.log_metrics({"loss": 1.0}, step)
        logger.save()
        found.append(saved())
    logger.flush()  # as a checkpoint does, before it is written
    found.append(saved())
    for step in (4, 5):  # the first belongs to the step that was saved
        logger.log_metrics({"loss": 1.0}, step)
        logger.save()
        found.append(saved())
    logger.finalize("failed")  # an exception came
    return [*found, saved()]


def test_metrics_csv_is_written_once_a_second_at_a_checkpoint_and_at_the_end(tmp_path, clock):
    def on_disk():
        return [line.split(",")[-1] for line in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]

    logger = ResumableCSVLogger(str(tmp_path))
    first, third, fifth = ["0"], ["0", "1", "2"], ["0", "1", "2", "3", "4"]
    assert log_points(logger, clock, on_disk) == [first, first, third, third, fifth[:4], fifth, fifth, [*fifth, "5"]]


def test_tensorboard_is_flushed_once_a_second_at_a_checkpoint_and_at_the_end(tmp_path, clock, monkeypatch):
    logger, flushed = ThrottledTensorBoardLogger(str(tmp_path), name="", version=""), []
    flush = logger.experiment.flush
    monkeypatch.setattr(logger.experiment, "flush", lambda: (flushed.append(clock[0]), flush()))
    assert [len(set(times)) for times in log_points(logger, clock, lambda: list(flushed))] == [1, 1, 2, 2, 3, 3, 3, 3]
    assert len(flushed) > 3  # at the end
    points = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [point.step for point in points] == [0, 1, 2, 3, 4, 5]


# metrics.csv, written and resumed


def write(folder, points, resumed_at=None):
    """Log (step, metrics) pairs, each with a write of its own."""
    logger = ResumableCSVLogger(str(folder), resumed_at)
    for step, metrics in points:
        logger.log_metrics(metrics, step)
        logger.finalize("success")


def read(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


POINTS = [
    (0, {"loss": 2.0, "epoch": 0}),
    (1, {"loss": 1.5}),
    (1, {"val": 0.5, "epoch": 0}),
    (2, {"loss": 1.0}),
    (3, {"b": 1}),
]


def test_the_file_is_the_one_that_lightnings_own_logger_writes(tmp_path):
    points = [(step, {name: torch.tensor(value) for name, value in metrics.items()}) for step, metrics in POINTS]
    write(tmp_path / "ours", points)
    theirs = CSVLogger(tmp_path / "theirs", name="", version="")
    for step, metrics in points:
        theirs.log_metrics(metrics, step)
    theirs.save()
    assert (tmp_path / "ours/metrics.csv").read_bytes() == (tmp_path / "theirs/metrics.csv").read_bytes()


def test_a_new_run_replaces_the_file_only_once_it_has_something_to_write(tmp_path):
    write(tmp_path, POINTS)
    before = (tmp_path / "metrics.csv").read_bytes()
    ResumableCSVLogger(str(tmp_path)).save()
    assert (tmp_path / "metrics.csv").read_bytes() == before
    write(tmp_path, [(0, {"loss": 9.0})])
    assert read(tmp_path) == [{"loss": "9.0", "step": "0"}]


def test_a_resumed_run_writes_the_later_steps_anew_and_drops_half_a_line_that_a_kill_left(tmp_path):
    write(tmp_path / "straight", POINTS)
    for later in ([], [(2, {"loss": -1.0}), (3, {"c": -1.0})]):
        for length in range(7):
            write(tmp_path / "run", [*POINTS[:3], *later])
            with (tmp_path / "run/metrics.csv").open("a", newline="") as file:
                file.write(",1.75,1\r\n"[:length])
            before = (tmp_path / "run/metrics.csv").read_bytes()
            ResumableCSVLogger(str(tmp_path / "run"), resumed_at=2).save()
            assert (tmp_path / "run/metrics.csv").read_bytes() == before  # nothing to write yet
            write(tmp_path / "run", POINTS[3:], resumed_at=2)
            assert read(tmp_path / "run") == read(tmp_path / "straight")
    write(tmp_path / "gone", POINTS[3:], resumed_at=2)
    assert [row["step"] for row in read(tmp_path / "gone")] == ["2", "3"]


def test_a_write_that_fails_leaves_the_file_whole(tmp_path, monkeypatch):
    logger = ResumableCSVLogger(str(tmp_path))
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")
    before = (tmp_path / "metrics.csv").read_bytes()
    logger.log_metrics({"new": 1.0}, 1)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no room"):
        patch.setattr(csv.DictWriter, "writerows", lambda *_: (_ for _ in ()).throw(OSError("no room")))
        logger.finalize("failed")
    assert (tmp_path / "metrics.csv").read_bytes() == before
    assert os.listdir(tmp_path) == ["metrics.csv"]
    logger.finalize("failed")
    assert len(read(tmp_path)) == 2
    assert logger._rows == []


def test_a_point_that_a_checkpoint_has_logged_already_is_not_logged_again(tmp_path):
    loss, rate = {"loss": 1.0}, {"lr": 0.1}
    write(tmp_path, [(0, loss), (0, loss), (1, loss), (1, rate), (2, loss)])
    assert [row["step"] for row in read(tmp_path)] == ["0", "1", "1", "2"]


# hparams.yaml


def test_hparams_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def killed(path, hparams):
        path.write_text("lr: 0.")
        raise OSError("no room")

    logger = ThrottledTensorBoardLogger(str(tmp_path), name="", version="")
    logger.log_hyperparams({"lr": 0.5})
    with monkeypatch.context() as patch:
        patch.setattr(loggers, "save_hparams_to_yaml", killed)
        with pytest.raises(OSError, match="no room"):
            logger.save()
    assert [path.name for path in tmp_path.iterdir() if "tfevents" not in path.name] == []
    logger.save()
    assert (tmp_path / "hparams.yaml").read_text() == "lr: 0.5\n"
