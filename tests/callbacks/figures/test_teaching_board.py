"""What TeachingBoard writes to TensorBoard, on a softmax by hand with sparse gradients and on a torch optimizer."""

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from callbacks.figures.teaching_board import TeachingBoard
from logreg.binary import BinaryLogit

X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
TARGET = torch.tensor([0, 1, 0, 1])


class Nameless(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(X, TARGET), batch_size=2)

    def val_dataloader(self):
        return DataLoader(TensorDataset(X, TARGET), batch_size=4)


class FourPoints(Nameless):
    class_names = ("low", "high")


def by_hand(*arguments, **options):
    return pytest.importorskip("logreg.softmax").SoftmaxRegression(*arguments, **options)


def fit(folder, model, data=None, logger=True, **options):
    board = TensorBoardLogger(str(folder), name="", version="") if logger else False
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    quiet |= {"accelerator": "cpu", "log_every_n_steps": 1, "default_root_dir": folder}
    trainer = L.Trainer(max_epochs=3, callbacks=[TeachingBoard()], logger=board, **quiet | options)
    trainer.fit(model, datamodule=data or FourPoints())
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
    return found.Reload()


def steps(events):
    return [event.step for event in events]


def test_histograms_of_weights_and_gradients_and_three_probabilities_once_an_epoch(tmp_path):
    model = BinaryLogit(num_features=2)
    found = fit(tmp_path, model)
    names = {"model.linear.weight", "model.linear.bias"}
    assert set(found.Tags()["histograms"]) == {f"{kind}/{name}" for kind in ("weights", "gradients") for name in names}
    rows = {"proba/row 0 is low", "proba/row 2 is low", "proba/row 3 is high"}
    assert {tag for tag in found.Tags()["scalars"] if tag.startswith("proba")} == rows
    for tag in found.Tags()["histograms"]:
        assert steps(found.Histograms(tag)) == [1, 3, 5]  # the last step of each epoch of two
    for tag in rows:
        assert steps(found.Scalars(tag)) == [1, 3, 5]


def test_the_last_values_are_those_of_the_trained_model(tmp_path):
    model = by_hand(2, 2, lr=0.5, seed=0)
    found = fit(tmp_path, model)
    proba = model.predict_proba(X)
    assert found.Scalars("proba/row 3 is high")[-1].value == pytest.approx(proba[3, 1].item())
    weights = found.Histograms("weights/W.weight")[-1].histogram_value
    assert (weights.min, weights.max) == pytest.approx((model.W.weight.min().item(), model.W.weight.max().item()))


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
    assert found.Histograms("weights/W.weight")[0].histogram_value.num == 6


def test_a_batch_without_features_has_no_gradient_to_show(tmp_path):
    data = SparsePoints()
    data.x = torch.zeros(2, 3)
    found = fit(tmp_path, by_hand(3, 2, seed=0), data)
    assert "gradients/W.weight" not in found.Tags()["histograms"]
    assert "gradients/b" in found.Tags()["histograms"]


def test_a_model_that_diverges_has_no_histogram_and_no_error(tmp_path):
    model = BinaryLogit(num_features=2)
    model.model.linear.weight.data.fill_(float("nan"))
    assert "weights/model.linear.weight" not in fit(tmp_path, model).Tags()["histograms"]


def test_without_tensorboard_it_does_nothing(tmp_path):
    assert fit(tmp_path, BinaryLogit(num_features=2), logger=False).Tags()["histograms"] == []


def test_data_without_names_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"TeachingBoard does not apply: Nameless has no class_names: .*; add it"):
        fit(tmp_path, BinaryLogit(num_features=2), Nameless())
