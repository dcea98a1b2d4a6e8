"""Anyone's model and anyone's data under train.py: what they lack is named in one line, and the rest works."""

import json
import sys

import lightning as L
import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cli.capabilities import additions_to
from tests.conftest import refused

REPORTS = {place: additions_to(place) for place in ("test", "predict")}  # none where the project has no reports

pytestmark = pytest.mark.filterwarnings("ignore:.*no `validation_step`. Skipping val loop.*")
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1", "--seed_everything", "42")
NET = ("--model", "logreg.NetClassifier", "--model.net", "torch.nn.Linear")
NET += ("--model.net.in_features", "4", "--model.net.out_features", "2")


class PlainModel(L.LightningModule):
    """As in Lightning's documentation; nothing of it is about classes."""

    def __init__(self, num_outputs: int = 1) -> None:
        super().__init__()
        self.layer = nn.Linear(4, num_outputs)

    def forward(self, x):
        return self.layer(x)

    def training_step(self, batch, batch_idx):
        x, target = batch
        return nn.functional.mse_loss(self(x).mean(dim=1), target.float())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class EvaluatedModel(PlainModel):
    def test_step(self, batch, batch_idx):
        self.log("test/loss", self.training_step(batch, batch_idx))


class PlainData(L.LightningDataModule):
    """As in Lightning's documentation: loaders, and no state."""

    def setup(self, stage):
        self.x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
        self.pairs = TensorDataset(self.x, (self.x[:, 0] > 0).long())

    def train_dataloader(self):
        return DataLoader(self.pairs, batch_size=8)

    val_dataloader = test_dataloader = train_dataloader

    def predict_dataloader(self):
        return DataLoader(self.x, batch_size=8)


class Misspelt(PlainData):
    num_class = 2


class NumpyNames(PlainData):
    num_classes, class_names = 2, list(np.array(["no", "yes"]))  # numpy.str_, as scikit-learn's data sets give them

    def describe(self, indices, split):
        return [{"row": index} for index in indices]

    def state_dict(self):
        return {"class_names": self.class_names}

    def load_state_dict(self, state):
        self.class_names = state["class_names"]


class Unloadable(PlainData):
    num_classes = 2

    def state_dict(self):
        return {"scalers": [StandardScaler()]}


@pytest.fixture
def train(cli, capsys, monkeypatch, tmp_path):
    """`train("fit", ...)` in one run directory, by classes of this file as `mine.NAME`; the lines it prints."""
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])

    def run(command, *arguments):
        stage = ("--trainer.max_epochs", 2) if command == "fit" else ("--ckpt_path", "last")
        cli(command, *arguments, *QUIET, *stage, "--trainer.default_root_dir", tmp_path / "run")
        return capsys.readouterr().out.splitlines()

    run.directory = tmp_path / "run"
    return run


def left_out(lines):
    return [line for line in lines if "leaves out" in line]


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_a_plain_model_on_plain_data_trains_tests_and_predicts_without_reports(train, num_outputs):
    arguments = ("--model", "mine.EvaluatedModel", "--model.num_outputs", num_outputs, "--data", "mine.PlainData")
    lacks = "EvaluatedModel has no predict_proba(x: Tensor) -> Tensor, predict_label(proba: Tensor) -> Tensor"
    lines = {place: [f"`{place}` leaves out {kind.__name__}: {lacks}" for kind in REPORTS[place]] for place in REPORTS}
    output = train("fit", *arguments)
    assert left_out(output) == lines["test"] + lines["predict"]
    missing = "no best.ckpt: checkpoint.monitor auto found no loss of a validation; last.ckpt has the last state"
    assert [line for line in output if "best.ckpt" in line] == [missing]
    printed = {command: train(command, *arguments) for command in ("test", "predict")}
    assert all(left_out(printed[command]) == lines[command] for command in printed)
    [loss] = [line.split() for line in printed["test"] if line.startswith(" test/")]
    assert loss[0] == "test/loss" and len(loss[1]) == len("0.1234")
    metrics = json.loads((train.directory / "test_metrics.json").read_text())
    assert metrics and all(name.startswith("test") for name in metrics)
    assert {path.name for path in (train.directory / "checkpoints").iterdir()} == {"last.ckpt"}  # no val/loss, no best


def test_a_model_with_nothing_but_a_training_step_trains_and_predicts(train):
    arguments = ("--model", "mine.PlainModel", "--data", "mine.PlainData")
    train("fit", *arguments)
    train("predict", *arguments)
    assert "test_step" in refused(train, "test", *arguments)


def test_a_classifier_on_plain_data_does_without_the_reports_that_need_names(train):
    arguments = (*NET, "--model.num_classes", 2, "--data", "mine.PlainData")
    printed = [*train("fit", *arguments), *train("test", *arguments), *train("predict", *arguments)]
    assert len(left_out(printed)) == 2 * sum(map(len, REPORTS.values()))
    assert all("PlainData has no class_names: Sequence[str], describe(" in line for line in left_out(printed))


def test_a_misspelt_property_is_missed_in_one_line_before_there_is_a_run(train):
    line = refused(train, "fit", *NET, "--data", "mine.Misspelt")
    assert "NetClassifier needs num_classes, which Misspelt does not offer" in line
    assert not train.directory.exists()


def test_names_as_numpy_has_them_come_back_from_the_checkpoint(train):
    arguments = (*NET, "--data", "mine.NumpyNames")
    for command in ("fit", "test", "predict"):
        assert left_out(train(command, *arguments)) == []
    names = torch.load(train.directory / "checkpoints/last.ckpt", weights_only=True)["NumpyNames"]["class_names"]
    assert names == ["no", "yes"]
    assert {type(name) for name in names} == {str}


def test_state_that_could_not_be_loaded_back_is_refused_when_it_is_written_by_its_key(train):
    line = refused(train, "fit", *NET, "--data", "mine.Unloadable")
    assert "Unloadable.scalers[0] is a sklearn.preprocessing._data.StandardScaler" in line
    assert not train.directory.exists()
