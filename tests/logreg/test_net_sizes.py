"""A net takes its sizes from the data, as the models do."""

import sys

import pytest
import torch
from torch import nn

from tests.conftest import refused
from tests.tools import lightning_examples

QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", "--seed_everything", 1)
pytestmark = pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*")


class Net(nn.Linear):
    def __init__(self, num_features: int, num_classes: int, bias: bool = True):
        super().__init__(num_features, num_classes, bias)


class Sized(lightning_examples.Labels):
    num_features, num_classes = 4, 3

    def train_dataloader(self):
        rows = torch.utils.data.TensorDataset(torch.randn(8, 4), torch.arange(8) % 3)
        return torch.utils.data.DataLoader(rows, batch_size=4)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class Unsized(Sized):
    num_features = num_classes = None


@pytest.fixture
def fit_net(cli, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "own_nets", sys.modules[__name__])
    place = ("--trainer.max_epochs", 1, "--trainer.default_root_dir", tmp_path / "run", *QUIET)

    def fit(data, *options):
        net = ("--model", "logreg.NetClassifier", "--model.net", "own_nets.Net", *options)
        cli("fit", *net, "--data", f"own_nets.{data}", *place)
        return tmp_path / "run"

    return fit


def test_a_net_gets_its_sizes_from_the_data(fit_net):
    run = fit_net("Sized", "--model.net.bias", "false")
    weights = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert weights["net.weight"].shape == (3, 4)
    assert "num_features" not in (run / "config.yaml").read_text()


def test_sizes_that_contradict_the_data_or_that_nobody_offers_are_refused_by_the_option_s_name(fit_net):
    assert "model.net.num_classes is 5, but the data has 3; leave it out" in refused(
        fit_net, "Sized", "--model.net.num_classes", 5
    )
    line = refused(fit_net, "Unsized", "--model.num_classes", 3)
    assert (
        "Net needs num_features, which Unsized does not offer: define it there, or set --model.net.num_features" in line
    )


def test_sizes_that_are_given_are_in_the_run_s_own_config(fit_net, cli):
    sizes = ("--model.net.num_features", 4, "--model.net.num_classes", 3, "--model.num_classes", 3)
    run = fit_net("Unsized", *sizes)
    cli("test", "--config", run / "config.yaml", "--ckpt_path", "best", *QUIET)
    assert (run / "test_metrics.json").is_file()
