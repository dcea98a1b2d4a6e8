"""What TeachingBoard writes to TensorBoard, on a softmax by hand with sparse gradients and on a torch optimizer."""

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from examples.teaching_board import TeachingBoard, draw
from logreg.binary import BinaryLogit
from tests.tools.runs import quiet_trainer

X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
TARGET = torch.tensor([0, 1, 0, 1])


class Nameless(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(X, TARGET), batch_size=2)

    def val_dataloader(self):
        return DataLoader(TensorDataset(X, TARGET), batch_size=4)


class FourPoints(Nameless):
    class_names, pad = ("low", "high"), 0

    def on_after_batch_transfer(self, batch, dataloader_idx):
        x, target = batch
        return (torch.nn.functional.pad(x, (0, self.pad)) if self.pad else x), target


def by_hand(*arguments, **options):
    return pytest.importorskip("logreg.softmax").SoftmaxRegression(*arguments, **options)


def trainer_in(folder, epochs, logger=False):
    return quiet_trainer(folder, TeachingBoard(), max_epochs=epochs, logger=logger, enable_checkpointing=False)


def fit(folder, model, data=None, logger=True):
    board = TensorBoardLogger(str(folder), name="", version="") if logger else False
    trainer_in(folder, 3, board).fit(model, datamodule=data or FourPoints())
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
    return found.Reload()


def steps(events):
    return [event.step for event in events]


def test_few_weights_and_three_probabilities_are_curves_and_gradients_histograms_once_an_epoch(tmp_path):
    model = BinaryLogit(num_features=2)
    found = fit(tmp_path, model)
    names = {"model.linear.weight", "model.linear.bias"}
    assert set(found.Tags()["histograms"]) == {f"gradients/{name}" for name in names}
    rows = {"proba/row 0 is low", "proba/row 2 is low", "proba/row 3 is high"}
    weights = {"weights/w1", "weights/w2", "weights/b"}
    assert {tag for tag in found.Tags()["scalars"] if tag.startswith(("proba", "weights"))} == rows | weights
    for tag in found.Tags()["histograms"]:
        assert steps(found.Histograms(tag)) == [1, 3, 5]  # the last step of each epoch of two
    for tag in rows:
        assert steps(found.Scalars(tag)) == [1, 3, 5]
    for tag in weights:
        assert steps(found.Scalars(tag)) == [0, 1, 3, 5]  # and the start


def test_the_last_values_are_those_of_the_trained_model(tmp_path):
    for columns, kind in ((2, "curves"), (5, "histogram")):
        torch.manual_seed(0)
        data = FourPoints()
        data.pad = columns - 2
        model = by_hand(columns, 2, lr=0.5, seed=0)
        found = fit(tmp_path / kind, model, data)
        x = torch.nn.functional.pad(X, (0, columns - 2))
        assert found.Scalars("proba/row 3 is high")[-1].value == pytest.approx(model.predict_proba(x)[3, 1].item())
        W = model.coefficients()[0]
        if kind == "curves":
            assert found.Scalars("weights/w2 of high")[-1].value == pytest.approx(W[1, 1].item())
        else:
            weights = found.Histograms("weights/W.weight")[-1].histogram_value
            expected = model.W.weight.min().item(), model.W.weight.max().item()
            assert (weights.min, weights.max) == pytest.approx(expected)


def test_the_picture_has_the_curves_of_a_resumed_run_from_its_start(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("examples.teaching_board.draw", lambda *curves: drawn.append(curves))

    def run(epochs, ckpt_path=None):
        torch.manual_seed(0)
        trainer = trainer_in(tmp_path, epochs)
        trainer.fit(BinaryLogit(num_features=2), datamodule=FourPoints(), ckpt_path=ckpt_path)
        trainer.save_checkpoint(tmp_path / "last.ckpt")

    run(3)
    run(2)
    run(3, tmp_path / "last.ckpt")
    whole, first, both = drawn
    assert both[:3] == whole[:3] != first[:3]
    assert [*both[0]] == ["w1", "w2", "b"]
    assert [*both[0]["w1"]] == [0, 1, 2, 3]
    assert [*both[1]["row 0 is low"]] == [1, 2, 3]


def test_the_picture_shows_both_in_a_chart_each():
    draw({"w1": {0: 1.0, 1: 2.0}}, {"row 0 is low": {1: 0.5}, "row 2 is low": {1: 0.25}}, 2, figure := Figure())
    weights, proba = figure.axes
    assert [line.get_xydata().tolist() for line in weights.lines] == [[[0.0, 1.0], [1.0, 2.0]]]
    assert [line.get_ydata()[0] for line in proba.lines] == [0.5, 0.25, 0.5]
    assert len({line.get_color() for line in proba.lines}) == 3
    draw({}, {"row 0 is low": {1: 0.5}}, 2, figure := Figure())
    assert len(figure.axes) == 1


def test_gradients_are_those_of_the_last_batch_before_the_update_uses_them_up(tmp_path):
    model, gradients = by_hand(2, 2, lr=0.5, seed=0), []
    backward = model.manual_backward
    model.manual_backward = lambda loss: (backward(loss), gradients.append(model.W.weight.grad.clone()))
    found = fit(tmp_path, model)
    written = [event.histogram_value for event in found.Histograms("gradients/W.weight")]
    assert [h.max for h in written] == pytest.approx([g.max().item() for g in gradients[1::2]])
    assert written[0].num == 4


class SparsePoints(FourPoints):
    x = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0]])

    def train_dataloader(self):
        return DataLoader([(self.x.to_sparse_csr(), torch.tensor([0, 1]))], batch_size=None)

    def val_dataloader(self):
        return DataLoader([(torch.eye(3), torch.tensor([0, 1, 0]))], batch_size=None)


def test_a_sparse_gradient_is_shown_by_the_features_of_the_batch(tmp_path):
    found = fit(tmp_path, by_hand(3, 2, seed=0), SparsePoints())
    assert found.Histograms("gradients/W.weight")[0].histogram_value.num == 2  # one feature, two classes
    assert found.Scalars("weights/w3 of high")


def test_a_batch_without_features_has_no_gradient_to_show(tmp_path):
    data = SparsePoints()
    data.x = torch.zeros(2, 3)
    found = fit(tmp_path, by_hand(3, 2, seed=0), data)
    assert "gradients/W.weight" not in found.Tags()["histograms"]
    assert "gradients/b" in found.Tags()["histograms"]


def test_a_model_that_diverges_has_no_histogram_and_no_error(tmp_path):
    data, model = FourPoints(), BinaryLogit(num_features=9)
    data.pad = 7
    model.model.linear.weight.data.fill_(float("nan"))
    assert "weights/model.linear.weight" not in fit(tmp_path, model, data).Tags()["histograms"]


def test_without_tensorboard_it_does_nothing(tmp_path):
    assert fit(tmp_path, BinaryLogit(num_features=2), logger=False).Tags()["histograms"] == []


def test_data_without_names_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"TeachingBoard does not apply: Nameless has no class_names: .*; add it"):
        fit(tmp_path, BinaryLogit(num_features=2), Nameless())
