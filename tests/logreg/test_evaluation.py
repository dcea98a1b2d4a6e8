"""Loss and metrics of a split: exact over unequal batches, the penalty apart, NaN never hidden."""

import math

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy

from logreg.evaluation import Evaluation


class Log:
    """As much of a LightningModule as an evaluation needs."""

    def __init__(self):
        self.values = {}

    def log(self, name, value, **_):
        self.values[name] = float(value)


def logged(batches, penalty=None):
    evaluation, log = Evaluation("val", {"accuracy": MulticlassAccuracy(2, average="micro")}), Log()
    for loss, target in batches:
        target = torch.tensor(target, dtype=torch.long)
        evaluation.update(torch.tensor(loss), preds=torch.zeros_like(target), target=target)
    evaluation.log(log, penalty)
    return log.values


def test_loss_is_the_mean_over_rows_and_not_over_batches():
    assert logged([(1.0, [0, 0, 1]), (5.0, [0])]) == pytest.approx({"val/loss": 2.0, "val/accuracy": 0.75})


def test_the_objective_is_the_loss_and_the_penalty():
    values = logged([(1.0, [0])], penalty=torch.tensor(0.5))
    assert (values["val/loss"], values["val/objective"]) == (1.0, 1.5)


def test_a_batch_without_rows_changes_nothing():
    assert logged([(1.0, [0]), (math.nan, [])])["val/loss"] == 1.0


def test_one_batch_of_nan_makes_the_loss_nan():
    assert math.isnan(logged([(1.0, [0, 0]), (math.nan, [0])])["val/loss"])


def test_the_next_epoch_starts_afresh():
    evaluation, log = Evaluation("test", {"accuracy": MulticlassAccuracy(2, average="micro")}), Log()
    for loss, label in ((1.0, 0), (3.0, 1)):
        evaluation.update(torch.tensor(loss), preds=torch.tensor([1]), target=torch.tensor([label]))
        evaluation.log(log)
        assert log.values == {"test/loss": loss, "test/accuracy": label}
