"""Any net in place of the linear layer: what XOR needs, with the loop, metrics and checkpoints of the linear models."""

import lightning as L
import pytest
import torch
from torch import nn

from logreg.net_classifier import MLP, NetClassifier

PLAIN = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "enable_checkpointing": False}


def iris_data(**options):
    return pytest.importorskip("datamodules.iris").IrisDataModule(**options)


def xor_data(**options):
    return pytest.importorskip("datamodules.xor").XORDataModule(**options)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_two_layers_separate_the_corners_of_xor(seed):
    L.seed_everything(seed, verbose=False)
    model, data = NetClassifier(MLP(2, 2), num_classes=2, optimizer=adam), xor_data(rows_per_corner=25, noise=0.1)
    trainer = L.Trainer(accelerator="cpu", max_epochs=100, **PLAIN)
    trainer.fit(model, data)
    (metrics,) = trainer.test(model, data, verbose=False)
    assert metrics["test/accuracy"] == 1.0
    assert metrics["test/loss"] < 0.1


def test_a_single_linear_layer_is_softmax_regression():
    x, target = torch.randn(5, 4), torch.tensor([0, 2, 1, 0, 2])
    model = NetClassifier(nn.Linear(4, 3), num_classes=3)
    proba = model.predict_proba(x)
    torch.testing.assert_close(proba, model.net(x).softmax(dim=1))
    assert torch.equal(model.predict_label(proba), proba.argmax(dim=1))
    model.log = lambda *_, **__: None
    torch.testing.assert_close(model.training_step((x, target), 0), nn.functional.cross_entropy(model.net(x), target))


def test_a_checkpoint_is_loaded_into_the_callers_net(tmp_path):
    model, data = NetClassifier(MLP(4, 3), num_classes=3), iris_data()
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, **PLAIN)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "mlp.ckpt")
    loaded = NetClassifier.load_from_checkpoint(tmp_path / "mlp.ckpt", net=MLP(4, 3))
    x = torch.randn(3, 4)
    assert torch.equal(loaded(x), model(x))


def test_fewer_than_two_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        NetClassifier(MLP(2, 1), num_classes=1)
