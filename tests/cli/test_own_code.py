"""Code of the user's own under train.py: where a bug in it is shown, and what stops it."""

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import lightning as L
import pytest
from torch import nn

from datamodules.batches import BatchedDataModule
from tests.cli.test_contracts import PlainData, PlainModel
from tests.conftest import refused

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).relative_to(ROOT)
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.max_epochs", "1", "--checkpoint.monitor", "null")
QUIET += ("--seed_everything", "42", "--trainer.log_every_n_steps", "1")


class Data(PlainData):
    num_features = 4


class Model(PlainModel):
    def __init__(self, num_features: int):
        super().__init__(num_outputs=2)

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)

    test_step = validation_step = training_step


class WrongShape(Model):
    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.layer(batch[0]), batch[1][:3])  # line of WrongShape


class WrongTuple(Model):
    def training_step(self, batch, batch_idx):
        _, _, _ = batch  # line of WrongTuple


class WrongLog(Model):
    def training_step(self, batch, batch_idx):
        self.log("train/loss", "low")  # line of WrongLog


class NoFile(Data):
    def setup(self, stage):
        Path("/nowhere/rows.csv").read_text()  # line of NoFile


class NoSizes(Data):
    @property
    def num_features(self):
        return int(Path("/nowhere/sizes").read_text())  # line of NoSizes


class OnPurpose(Data):
    def setup(self, stage):
        raise ValueError("rows.csv: expected a column of dates")  # line of OnPurpose


class WrongCallback(L.Callback):
    def on_train_batch_end(self, *arguments):
        float("fast")  # line of WrongCallback


class Asked(BatchedDataModule):
    asked: list[str] = []  # noqa: RUF012 - of all instances
    class_names = ("no", "yes")

    def dataset(self, split):
        self.asked.append(split)
        raise ValueError("the server is silent")


@pytest.fixture
def train(cli, monkeypatch, tmp_path):
    """`train("fit", "Model", "Data", ...)` runs classes of this file, which are `mine.NAME`, in one run directory."""
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])

    def run(command, model, data, *arguments):
        classes = ("--model", f"mine.{model}", "--data", f"mine.{data}")
        last = () if command == "fit" else ("--ckpt_path", "last")
        cli(command, *classes, *QUIET, *last, *arguments, "--trainer.default_root_dir", tmp_path / "run")

    return run


def line_of(name):
    return next(n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.endswith(f"of {name}"))


MISTAKES = {
    "WrongShape": ("WrongShape", "Data", "target batch_size"),
    "WrongTuple": ("WrongTuple", "Data", "not enough values to unpack"),
    "WrongLog": ("WrongLog", "Data", "values cannot be logged"),
    "NoFile": ("Model", "NoFile", "No such file or directory: '/nowhere/rows.csv'"),
    "NoSizes": ("Model", "NoSizes", "No such file or directory: '/nowhere/sizes'"),
    "OnPurpose": ("Model", "OnPurpose", "rows.csv: expected a column of dates"),
    "WrongCallback": ("Model", "Data", "not convert string to float", "--trainer.callbacks", "mine.WrongCallback"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_an_error_that_passes_through_a_file_of_ones_own_shows_its_line(train, name):
    model, data, message, *options = MISTAKES[name]
    line = refused(train, "fit", model, data, *options)
    assert message in line
    assert line.endswith(f'File "{HERE}", line {line_of(name)}; LOGREG_DEBUG=1 shows the whole traceback')


def test_an_error_while_a_file_of_ones_own_is_imported_shows_its_line(cli, monkeypatch, tmp_path):
    (tmp_path / "broken.py").write_text("import lightning\n\nprint(undefined)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit, match=r"undefined.*File \".*broken.py\", line 3; LOGREG_DEBUG=1"):
        cli("fit", "--model", "broken.Model", "--data", "datamodules.IrisDataModule")


def test_the_whole_traceback_is_shown_on_request(train, monkeypatch):
    monkeypatch.setenv("LOGREG_DEBUG", "1")
    with pytest.raises(ValueError, match="not enough values"):
        train("fit", "WrongTuple", "Data")


def test_an_error_of_the_data_asks_for_them_once(train):
    Asked.asked.clear()
    with pytest.raises(SystemExit, match=r"^error: the server is silent"):
        train("fit", "Model", "Asked")
    assert Asked.asked == ["train"]


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_sigterm_outside_of_a_fit_ends_the_command(train, monkeypatch, capsys, tmp_path, command):
    train("fit", "Model", "Data")
    step = {"validate": "validation_step"}.get(command, f"{command}_step")
    monkeypatch.setattr(Model, step, lambda *_: signal.raise_signal(signal.SIGTERM))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as end:
        train(command, "Model", "Data")
    assert end.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().out.splitlines()[-1] == "stopped by SIGTERM"
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_sigterm_before_the_first_step_of_a_fit_is_not_lost(train, monkeypatch, capsys, tmp_path):
    signals = [signal.SIGTERM]
    monkeypatch.setattr(Model, "validation_step", lambda *_: signals and signal.raise_signal(signals.pop()))
    with pytest.raises(SystemExit) as end:
        train("fit", "Model", "Data")
    assert end.value.code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step 1" in capsys.readouterr().out
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_command_runs_in_a_thread(train, capsys, tmp_path, command):
    if command != "fit":
        train("fit", "Model", "Data")
    ended = []
    thread = threading.Thread(target=lambda: ended.append(train(command, "Model", "Data")))
    thread.start()
    thread.join()
    assert ended == [None], capsys.readouterr().err
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("module", ["train.py", "selection.cross_validate"])
def test_warnings_that_are_errors_end_no_command(tmp_path, module):
    command = [module, "fit"] if module == "train.py" else ["-m", module]
    options = ["--config", "configs/iris_binary.yaml", "--trainer.max_epochs", "1", "--trainer.default_root_dir"]
    words = [sys.executable, "-W", "error", *command, *options, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, re.findall("Warning|Traceback", done.stderr)) == (0, []), done.stderr[-2000:]
