"""How many threads a command takes; several processes are tried in tests/test_distributed.py."""

import pytest
import torch

from cli.processes import spare_threads
from logreg.binary import BinaryLogit
from logreg.net_classifier import MLP, NetClassifier


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_network_takes_as_many_as_torch_finds():
    spare_threads(NetClassifier(MLP(2, 2), num_features=2, num_classes=2))
    assert torch.get_num_threads() == 2


def test_the_environment_decides_where_it_says_how_many(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    spare_threads(BinaryLogit(2))
    assert torch.get_num_threads() == 2


def test_a_command_takes_one_thread_for_a_linear_model(cli, tmp_path):
    options = ("--trainer.max_epochs", 1, "--trainer.default_root_dir", tmp_path)
    cli("fit", "--config", "configs/iris_binary.yaml", *options)
    assert torch.get_num_threads() == 1
