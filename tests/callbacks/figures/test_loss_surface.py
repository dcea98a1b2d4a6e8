"""The map of the objective against the loss worked out in numpy, and the path that a resumed run continues."""

import lightning as L
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from callbacks.figures.boundary import Grid
from callbacks.figures.loss_surface import LossSurface, draw, surface
from tests.tools.runs import quiet_trainer

X = torch.tensor([[0.5, 2.0], [-1.0, 1.0], [2.0, -1.0], [0.0, -2.0]])
TARGET = torch.tensor([1, 0, 1, 0])


class Logit(L.LightningModule):
    """As in article 1; the bias is fixed."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([0.2, -0.1]))

    l2 = 0.0

    def coefficients(self):
        return self.w[:, None], torch.tensor([0.3])

    def nll(self, logits, target, denominator):
        return torch.nn.functional.softplus(-(2 * target - 1) * logits).sum() / denominator

    def training_step(self, batch, batch_idx):
        x, target = batch
        return self.nll(x @ self.w + 0.3, target, len(target))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Data(L.LightningDataModule):
    class_names, feature_names = ("no", "yes"), ("a", "b")

    def points(self, split):
        return X, TARGET

    def transform(self, x):
        return x

    def train_dataloader(self):
        return DataLoader(TensorDataset(X, TARGET), batch_size=4)


def fit(folder, epochs, model=None, **options):
    callback, model = LossSurface(), model or Logit()
    trainer = quiet_trainer(folder, callback, max_epochs=epochs)
    trainer.fit(model, datamodule=Data(), **options)
    trainer.save_checkpoint(folder / "last.ckpt")
    return callback, model


def test_the_map_is_the_loss_at_every_pair_of_weights_and_holds_the_whole_path():
    path = torch.tensor([[0.2, -0.1], [1.5, 2.0]], dtype=torch.float64)
    grid = surface(Logit(), X.double(), TARGET, path)
    for i, j in ((0, 0), (3, 100), (159, 42)):
        logits = X.numpy() @ np.array([grid.x1[j], grid.x2[i]]) + 0.3
        expected = np.log1p(np.exp(-(2 * TARGET.numpy() - 1) * logits)).mean()
        assert float(grid.values[i, j]) == pytest.approx(expected, rel=1e-6)
    for w, column in ((grid.x1, path[:, 0]), (grid.x2, path[:, 1])):
        assert w[0] < column.min() and column.max() < w[-1]


def test_the_map_of_a_binary_logit_is_the_objective_that_it_trains_on():
    from logreg.binary import BinaryLogit

    for options in ({"l2": 0.1}, {"class_weight": [1.0, 3.0], "loss": "bce"}):
        model = BinaryLogit(2, **options)
        model.log = lambda *_, **__: None
        with torch.no_grad():
            grid = surface(model, X, TARGET, torch.tensor([[0.2, -0.1], [1.5, 2.0]]))
            for i, j in ((0, 0), (3, 100), (159, 42)):
                model.model.linear.weight.copy_(torch.stack([grid.x1[j], grid.x2[i]]))
                trained = float(model.training_step((X, TARGET), 0))
                assert float(grid.values[i, j]) == pytest.approx(trained, rel=1e-5)


@pytest.mark.filterwarnings("ignore:.*no `validation_step`.*", "ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*val_dataloader.*", "ignore:.*exists and is not.*")
def test_the_path_has_the_weights_at_the_start_and_after_each_epoch_also_after_a_resume(tmp_path):
    callback, model = fit(tmp_path, 4)
    assert len(callback.path) == 5
    assert callback.path[0] == pytest.approx([0.2, -0.1]) and callback.path[-1] == model.w.tolist()
    losses = torch.stack([Logit().nll(X @ torch.tensor(w) + 0.3, TARGET, 4) for w in callback.path])
    assert (losses.diff() < 0).all()  # it goes down
    with Image.open(tmp_path / "figures/loss_surface.png") as image:
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 10
    (tmp_path / "resumed").mkdir()
    fit(tmp_path / "resumed", 2)
    resumed, _ = fit(tmp_path / "resumed", 4, ckpt_path=tmp_path / "resumed/last.ckpt")
    assert resumed.path == callback.path


@pytest.mark.parametrize("shape", [(4, 1), (2, 3)])
def test_a_model_with_other_than_two_weights_is_refused(tmp_path, shape):
    class Wide(Logit):
        def coefficients(self):
            return torch.zeros(shape), torch.zeros(shape[1])

    with pytest.raises(ValueError, match=rf"a model of exactly 2 weights, got \({shape[0]}, {shape[1]}\)"):
        fit(tmp_path, 1, model=Wide())


def drawn(objective):
    ax, path = Figure().add_subplot(), torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    draw(ax, Grid(torch.arange(3.0), torch.arange(3.0), objective), path, ("petal length (cm)", "f(x) of x"), 1)
    return ax


def test_axes_are_equal_and_named_without_the_unit_because_the_weights_are_of_features_that_have_none():
    ax = drawn(torch.arange(9.0).unflatten(0, (3, 3)))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("weight of petal length", "weight of f(x) of x")
    assert ax.get_aspect() == 1


def test_a_minimum_within_the_map_is_marked_and_one_at_its_edge_is_none():
    inside = torch.tensor([[3.0, 3.0, 3.0], [3.0, 1.0, 3.0], [3.0, 3.0, 3.0]])
    (minimum,) = [line for line in drawn(inside).lines if line.get_marker() == "P"]
    assert minimum.get_xydata().tolist() == [[1.0, 1.0]]
    assert "P" not in [line.get_marker() for line in drawn(torch.arange(9.0).unflatten(0, (3, 3))).lines]
