"""Modules and data as Lightning's documentation writes them, unedited, under every command and after a kill."""

import csv
import json
import os
import signal
import sys
from typing import ClassVar

import lightning as L
import pytest
import torch
from torch import nn

from datamodules.batches import BatchedDataModule, BatchedDataset
from tests.conftest import refused
from tests.tools import lightning_examples

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*no `validation_step`. Skipping val loop.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*enable_nested_tensor.*"),  # torch's, of a transformer of two heads
    pytest.mark.filterwarnings("ignore:.*infer the `batch_size`.*"),  # Lightning's, of batches that are dicts
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory .* exists.*"),
]
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", "--seed_everything", 1)
PAIRS = {  # model, data, the line on best.ckpt, metrics of `test`
    "autoencoder": ("AutoEncoder", "Digits", "val_loss", {"test_loss"}),
    "GAN": ("GAN", "Digits", None, {"test/d_real"}),
    "transformer": ("LanguageModel", "Corpus", "val_loss", {"test_loss"}),
    "MNIST": ("DigitClassifier", "Digits", "val_loss", {"test_loss", "test_acc"}),
    "two loaders": (
        *("DigitClassifier", "TwoLoaders", "val_loss/dataloader_idx_0"),
        {f"{name}/dataloader_idx_{number}" for name in ("test_loss", "test_acc") for number in (0, 1)},
    ),
    "CIFAR": ("ColourClassifier", "Colours", "val_loss", {"test_loss", "test_acc"}),
    "regression": ("Regression", "OnlyTraining", None, {"test/mse"}),
    "multi-label": ("MultiLabel", "Labels", "val_loss", {"test_loss", "test_f1"}),
}
each_pair = pytest.mark.parametrize(("model", "data", "monitor", "metrics"), PAIRS.values(), ids=PAIRS)


class SignalAt(L.Callback):
    """Signals its own process as a batch begins; the first of the fit is number 1."""

    seen: ClassVar[list] = []

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append((trainer.current_epoch, batch_idx))
        if len(self.seen) == self.batch:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def run(cli, capsys, monkeypatch, tmp_path):
    """`run("fit", "GAN", "Digits", ...)` in one run directory; what it prints."""
    monkeypatch.setitem(sys.modules, "examples_of_lightning", lightning_examples)
    monkeypatch.setitem(sys.modules, "own_callbacks", sys.modules[__name__])
    paths = ("--model", "examples_of_lightning.{}", "--data", "examples_of_lightning.{}")

    def command(name, model, data, *options):
        classes = (paths[0], paths[1].format(model), paths[2], paths[3].format(data))
        cli(name, *classes, *QUIET, "--trainer.default_root_dir", tmp_path / "run", *options)
        return capsys.readouterr().out

    return command


@each_pair
def test_it_is_stopped_within_an_epoch_goes_on_validates_tests_and_predicts(
    run, tmp_path, model, data, monitor, metrics
):
    def at(batch):
        own = {"class_path": "own_callbacks.SignalAt", "init_args": {"batch": batch}}
        return ("--trainer.max_epochs", 3, "--trainer.callbacks", json.dumps([own]))

    directory = tmp_path / "run"
    loader = getattr(lightning_examples, data)()
    loader.setup("fit")
    batches = len(loader.train_dataloader())
    SignalAt.seen.clear()
    with pytest.raises(SystemExit):
        run("fit", model, data, *at(batches + 2))
    SignalAt.seen.clear()
    printed = run("fit", model, data, *at(-1), "--ckpt_path", "last")

    assert "epoch 2 begins again, after 2 of its batches" in printed
    assert SignalAt.seen == [(epoch, batch) for epoch in (1, 2) for batch in range(batches)]
    last = torch.load(directory / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == (3 * batches + 2) * len(last["optimizer_states"])
    assert (directory / "checkpoints/best.ckpt").is_file() == (monitor is not None)
    assert ("no best.ckpt" if monitor is None else f", {monitor} ") in printed

    trained = ("--ckpt_path", "last" if monitor is None else "best")
    if model == "Regression":
        assert "validation_step" in refused(run, "validate", model, data, *trained)
    else:
        run("validate", model, data, *trained)
    run("test", model, data, *trained)
    assert json.loads((directory / "test_metrics.json").read_text()).keys() == metrics
    if model != "Regression":  # which has no forward
        printed = run("predict", model, data, *trained)
        assert f"is in {directory / 'predictions.pt'} (torch.load)" in printed
        assert len(torch.load(directory / "predictions.pt", weights_only=True)) > 1


def test_several_optimizers_log_each_batch_once_after_a_kill(run, tmp_path):
    def to(epochs, *options):
        run("fit", "GAN", "Digits", "--trainer.max_epochs", epochs, "--trainer.log_every_n_steps", 1, *options)

    last, metrics = tmp_path / "run/checkpoints/last.ckpt", tmp_path / "run/metrics.csv"
    to(1)
    saved = last.read_bytes()
    for _ in range(2):  # the second time the curves are an epoch longer than the checkpoint
        to(2, "--ckpt_path", last)
        with metrics.open(newline="") as file:
            steps = [int(row["step"]) for row in csv.DictReader(file) if row["g_loss"]]
        assert steps == [*range(10)]
        last.write_bytes(saved)


def test_a_schedule_over_all_steps_is_not_overrun_by_an_epoch_that_begins_again(run, tmp_path):
    own = {"class_path": "own_callbacks.SignalAt", "init_args": {"batch": 4}}
    options = ("--trainer.max_epochs", 2, "--trainer.callbacks")
    SignalAt.seen.clear()
    with pytest.raises(SystemExit):
        run("fit", "ColourClassifier", "Colours", *options, json.dumps([own]))
    run("fit", "ColourClassifier", "Colours", *options, "null", "--ckpt_path", "last")
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["lr_schedulers"][0]["last_epoch"] == 10  # the last of the planned steps, although 14 were taken
    assert last["global_step"] == 14


def test_own_checkpoints_and_own_early_stopping_stand_beside_those_of_the_run(run, tmp_path):
    run("fit", "ColourClassifier", "Colours", "--trainer.max_epochs", 3)
    folder = tmp_path / "run/checkpoints"
    assert {path.name for path in folder.glob("*.ckpt")} == {"best.ckpt", "last.ckpt"}
    assert 1 <= len([*(folder / "callbacks").glob("*val_acc=*")]) <= 2


# What predict saves


class Returns(L.LightningModule):
    """Returns what it is told to, for each batch with its number."""

    def __init__(self, what: str = "tensor"):
        super().__init__()
        self.what, self.layer = what, nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def predict_step(self, batch, batch_idx):
        value = torch.full((2,), float(batch_idx))
        whole = torch.zeros(1000, 100)
        return {
            "tensor": value,
            "dict": {"of": value, "name": "a"},
            "list": [value, (value, None)],
            "view": whole[0],
            "nothing": None,
            "array": value.numpy(),
        }[self.what]


@pytest.fixture
def predict(run, monkeypatch, tmp_path):
    monkeypatch.setattr(lightning_examples, "Returns", Returns, raising=False)

    def command(what, *options):
        run("fit", "Returns", "Labels", "--trainer.max_epochs", 1)
        printed = run("predict", "Returns", "Labels", "--model.what", what, "--ckpt_path", "last", *options)
        file = tmp_path / "run/predictions.pt"
        return printed, torch.load(file, weights_only=True) if file.is_file() else None

    return command


def test_tensors_lists_and_dicts_are_saved_batch_by_batch(predict):
    for what in ("tensor", "dict", "list"):
        saved = predict(what)[1]
        expected = [Returns(what).predict_step(None, number) for number in range(4)]
        assert str(saved) == str(expected), what


def test_a_view_brings_no_more_than_itself_into_the_file(predict, tmp_path):
    predict("view")
    assert (tmp_path / "run/predictions.pt").stat().st_size < 10_000


@pytest.mark.filterwarnings("ignore:predict returned None")
def test_what_no_file_can_hold_costs_one_line(predict):
    printed, saved = predict("array")
    assert "`predict` saves nothing: predict_step's output is a numpy.ndarray" in printed
    assert "store torch.from_numpy(array)" in printed
    assert saved is None
    assert predict("nothing")[1] is None


def test_each_loader_has_a_list_of_its_own(run, tmp_path):
    run("fit", "DigitClassifier", "TwoLoaders", "--trainer.max_epochs", 1)
    run("predict", "DigitClassifier", "TwoLoaders", "--ckpt_path", "best")
    first, second = torch.load(tmp_path / "run/predictions.pt", weights_only=True)
    assert [len(batch) for batch in first] == [8, 8, 4]
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


# Exactly at its batch


class Rows(BatchedDataModule):
    class_names = ("no", "yes")

    def dataset(self, split):
        x = lightning_examples.drawn(32, 4)
        return BatchedDataset(lambda batch: x[batch.indices], (x.sum(dim=1) > 0).long())


class Planned(lightning_examples.Regression):
    """Asks for the number of steps, and so for the loaders, before the loops of a resumed run are restored."""

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self.layer(batch.x).squeeze(1), batch.target.float())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def test_with_batched_data_a_resume_goes_on_at_its_batch_also_where_the_model_plans_its_steps(
    cli, run, tmp_path, capsys
):
    classes = ("--model", "own_callbacks.Planned", "--data", "own_callbacks.Rows", "--data.batch_size", 8, *QUIET)

    def fit(name, batch, *options):
        own = json.dumps([{"class_path": "own_callbacks.SignalAt", "init_args": {"batch": batch}}])
        SignalAt.seen.clear()
        place = ("--trainer.default_root_dir", tmp_path / name, "--trainer.max_epochs", 3)
        cli("fit", *classes, *place, "--trainer.callbacks", own, *options)
        return torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]

    straight = fit("straight", -1)
    with pytest.raises(SystemExit):
        fit("run", 6)
    resumed = fit("run", -1, "--ckpt_path", "last")
    assert SignalAt.seen == [(1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]
    assert "begins again" not in capsys.readouterr().out
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
