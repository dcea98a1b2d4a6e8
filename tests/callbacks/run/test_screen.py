"""One line of shapes, metrics in a fixed order, and the bar, on a terminal of 80 columns."""

import lightning as L
import pytest
import torch
from torch import nn

from callbacks.run.overhead import ThrottledProgressBar
from callbacks.run.screen import PrintedMetrics, ShapesSummary, shapes
from callbacks.terminal import print_table
from tests.tools.terminal import screen

PLAIN = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}


class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))

    def training_step(self, batch, batch_idx):
        self.log("train/loss", 0.25)
        return self.net(batch).sum()

    def validation_step(self, batch, batch_idx):
        self.log_dict({"val/loss": 0.5, "val/accuracy": 0.75, "val/a_metric_with_a_long_name": 1.0}, prog_bar=True)

    def test_step(self, batch, batch_idx):
        self.log_dict({"test/other": 2.5, "test/loss": 0.000012345, "test_calibrated/nll": -0.0, "test/accuracy": 0.95})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(2))

    def coefficients(self):
        return self.weight, self.bias


@pytest.fixture
def on_terminal(monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "80")


def loader():
    return torch.utils.data.DataLoader(torch.zeros(8, 2), batch_size=2)


def test_a_linear_model_has_its_shapes_and_a_net_the_number_of_its_layers():
    assert shapes(Linear()) == "W (3, 2), b (2,): 8 parameters"
    model = Model()
    assert shapes(model) == "Model of 2 layers: 13 parameters"
    model.net[0].requires_grad_(False)
    assert shapes(model) == "Model of 2 layers: 13 parameters, 9 of them frozen"
    assert shapes(nn.LazyLinear(2)) == "LazyLinear of 1 layer: 0 parameters"


@pytest.mark.filterwarnings("ignore:.*bottleneck.*")
def test_a_fit_draws_one_line_of_80_columns_that_counts_epochs_from_1(on_terminal, capsys):
    bar = ThrottledProgressBar()
    L.Trainer(max_epochs=3, callbacks=[bar, ShapesSummary()], **PLAIN).fit(Model(), loader(), loader())
    output = capsys.readouterr().out
    lines = [line for line in screen(output, 80) if line]
    assert lines[0] == "Model of 2 layers: 13 parameters"
    assert len(lines) == 2 and len(lines[1]) <= 80
    assert lines[1].startswith("Epoch 3/3 ━━━━━━━━ 00:0")
    assert "train/loss 0.250 val/loss 0.500 val/accuracy 0.750" in lines[1]
    assert lines[1].endswith("…")
    assert "Epoch 0" not in output and "Epoch 1/3" in output


@pytest.mark.filterwarnings("ignore:.*bottleneck.*")
def test_metrics_come_in_a_fixed_order_with_four_digits_when_the_bar_has_gone(on_terminal, capsys):
    trainer = L.Trainer(callbacks=[PrintedMetrics(), ThrottledProgressBar()], **PLAIN)
    trainer.test(Model(), loader(), verbose=False)
    output = capsys.readouterr().out
    assert [line.split() for line in screen(output, 80)[2:] if line] == [
        ["test/accuracy", "0.9500"],
        ["test/loss", "1.234e-05"],
        ["test/other", "2.5000"],
        ["test_calibrated/nll", "0.0000"],
    ]
    assert "Testing" in output


@pytest.mark.filterwarnings("ignore:.*bottleneck.*")
def test_where_there_is_no_terminal_there_is_no_bar(capsys):
    L.Trainer(max_epochs=1, callbacks=[ThrottledProgressBar(), ShapesSummary()], **PLAIN).fit(
        Model(), loader(), loader()
    )
    assert capsys.readouterr().out == "Model of 2 layers: 13 parameters\n"


def test_a_table_that_is_too_wide_keeps_all_columns_and_cuts_only_some(on_terminal, capsys):
    print_table(("text", "label", "for"), [("word " * 20, "weather", "word, " * 20)], words=3, cut=[2])
    header, _, *lines = [line.split() for line in screen(capsys.readouterr().out, 80) if line]
    assert header == ["text", "label", "for"]
    assert "weather" in lines[0]
    assert lines[0][-1].endswith("…")
    assert sum(line.count("word") for line in lines) == 20
