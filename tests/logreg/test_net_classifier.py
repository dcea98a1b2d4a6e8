"""Any net in place of the linear layer: what XOR needs, with the loop, metrics and checkpoints of the linear models."""

import lightning as L
import pytest
import torch
from torch import nn

from logreg.net_classifier import MLP, NetClassifier
from tests.logreg.helpers import iris_data, trainer, xor_data


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.05)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_two_layers_separate_the_corners_of_xor(seed):
    L.seed_everything(seed, verbose=False)
    model = NetClassifier(MLP(2, 2), num_classes=2, optimizer=adam)
    data, run = xor_data(rows_per_corner=25, noise=0.1, batch_size=100), trainer(max_epochs=100, limit_val_batches=0)
    run.fit(model, data)
    (metrics,) = run.test(model, data, verbose=False)
    assert metrics["test/accuracy"] == 1.0
    assert metrics["test/loss"] < 0.1


def test_a_resumed_net_drops_out_what_an_unbroken_run_does(tmp_path):
    def fitted(**options):
        L.seed_everything(3, verbose=False)
        net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        model = NetClassifier(net, num_classes=3, optimizer=adam)
        saves = L.pytorch.callbacks.LambdaCallback(on_train_batch_end=save, on_train_epoch_end=save)
        trainer(max_epochs=3, callbacks=[saves]).fit(model, iris_data(), **options)
        return model.state_dict()

    def save(trainer, *_):
        trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")

    unbroken = fitted()
    for step in (6, 8):  # at the end of an epoch, and within one
        resumed = fitted(ckpt_path=tmp_path / f"{step}.ckpt")
        assert all(torch.equal(resumed[name], weight) for name, weight in unbroken.items())


def test_a_single_linear_layer_is_softmax_regression():
    x, target = torch.randn(5, 4), torch.tensor([0, 2, 1, 0, 2])
    model = NetClassifier(nn.Linear(4, 3), num_classes=3)
    proba = model.predict_proba(x)
    torch.testing.assert_close(proba, model.net(x).softmax(dim=1))
    assert torch.equal(model.predict_label(proba), proba.argmax(dim=1))
    model.log = lambda *_, **__: None
    torch.testing.assert_close(model.training_step((x, target), 0), nn.functional.cross_entropy(model.net(x), target))


def test_a_checkpoint_is_loaded_into_the_callers_net(tmp_path):
    model, run = NetClassifier(MLP(4, 3), num_classes=3), trainer(max_epochs=1)
    run.fit(model, iris_data())
    run.save_checkpoint(tmp_path / "mlp.ckpt")
    loaded = NetClassifier.load_from_checkpoint(tmp_path / "mlp.ckpt", net=MLP(4, 3))
    x = torch.randn(3, 4)
    assert torch.equal(loaded(x), model(x))


def test_fewer_than_two_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        NetClassifier(MLP(2, 1), num_classes=1)


@pytest.mark.parametrize("net", [MLP(3, 3), MLP(4, 2), nn.Flatten(0)], ids=["features", "classes", "no rows"])
def test_a_net_of_other_sizes_than_the_data_is_refused(net):
    with pytest.raises(ValueError, match=r"model\.net: expected one that maps rows \(2, 4\) to \(2, 3\)"):
        NetClassifier(net, num_classes=3, num_features=4)


def test_trying_the_net_changes_nothing():
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in net.state_dict().items()}
    NetClassifier(net, num_classes=3, num_features=4)
    assert net.training and net[1].training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
