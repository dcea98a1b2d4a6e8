"""The columns of W as pictures: which numbers they show, when they are drawn, and what is refused."""

import lightning as L
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from callbacks.figures.weights import WeightImages, draw
from tests.tools.runs import quiet_trainer


class Pixels(L.LightningDataModule):
    class_names, image_shape = ("left", "right", "none"), (2, 3)

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.eye(6), torch.arange(6) % 3), batch_size=6)


class Linear(L.LightningModule):
    def __init__(self, columns=3):
        super().__init__()
        self.W = torch.nn.Parameter(torch.zeros(6, columns))

    def coefficients(self):
        return self.W, torch.zeros(3)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(batch[0] @ self.W, batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(folder, model, data=None):
    trainer = quiet_trainer(folder, WeightImages(), max_epochs=4, enable_checkpointing=False)
    trainer.fit(model, datamodule=data or Pixels())


def test_each_class_has_its_column_row_by_row_and_white_is_zero():
    W, figure = torch.arange(-6.0, 12.0).reshape(6, 3), Figure(layout="constrained")
    draw(figure, W.T.unflatten(1, (2, 3)), ["a", "b", "c"], "Epoch 3")
    *panels, bar = figure.axes
    assert [ax.get_title() for ax in panels] == ["a", "b", "c"]
    for ax, column in zip(panels, W.T, strict=True):
        (image,) = ax.images
        assert image.get_array().tolist() == [column[:3].tolist(), column[3:].tolist()]
        assert image.get_clim() == (-11.0, 11.0)
        assert image.cmap(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.02)
    assert [text.get_text() for text in bar.get_yticklabels()] == ["-11.00\nagainst", "0", "11.00\nfor it"]
    assert figure.get_suptitle().startswith("Epoch 3: ")


def test_of_a_binary_logit_the_one_column_is_of_the_second_class():
    trainer = quiet_trainer(None)
    trainer.datamodule = type("Two", (Pixels,), {"class_names": ("no", "yes")})()
    WeightImages().scene(trainer, Linear(1), "Best")(figure := Figure(layout="constrained"))
    assert [ax.get_title() for ax in figure.axes[:-1]] == ["yes"]


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_pictures_of_the_start_of_epochs_and_of_the_end_become_a_gif(tmp_path):
    fit(tmp_path, Linear())
    frames = [f"weights_epoch_{epoch:05d}.png" for epoch in (0, 1, 2, 3, 4)]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["weights.gif", *frames]
    with Image.open(tmp_path / "figures/weights.gif") as gif:
        assert gif.n_frames == 5


def test_a_model_or_data_without_such_pictures_is_refused_before_training(tmp_path):
    class Net(L.LightningModule):
        training_step, configure_optimizers = Linear.training_step, Linear.configure_optimizers

    class Words(Pixels):
        image_shape = (4, 4)

    nameless = L.LightningDataModule.from_datasets(TensorDataset(torch.eye(6), torch.arange(6) % 3))
    for model, data, message in (
        (Net(), Pixels(), "Net has no coefficients, it is not linear"),
        (Linear(), Words(), "W has 6 rows, a picture 16 pixels"),
        (Linear(), nameless, r"LightningDataModule has no class_names.*image_shape: tuple"),
    ):
        with pytest.raises(ValueError, match=f"WeightImages does not apply: {message}.*; remove the callback"):
            fit(tmp_path, model, data)
    assert list(tmp_path.iterdir()) == []
