"""Data, optima and figures that tests of several models share."""

from contextlib import contextmanager
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader

from datamodules.batches import Batch
from tests.tools.ready import ready

newton = partial(
    torch.optim.LBFGS, lr=1.0, max_iter=500, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
)


def trainer(**options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return L.Trainer(**quiet | {"enable_checkpointing": False, "accelerator": "cpu", "devices": 1} | options)


class NoTrainer:
    """As much of Lightning's Trainer and optimizer as an update by hand needs; no step is logged."""

    global_step, is_last_batch, log_every_n_steps, lr_scheduler_configs = 0, False, 10**9, ()

    def __init__(self, lr):
        self.param_groups, self.steps = [{"lr": lr}], 0

    def step(self):
        self.steps += 1


@contextmanager
def without_trainer(kind, lr):
    """Let the `training_step` of a class with an update by hand run alone; counts its `steps`."""
    stub = NoTrainer(lr)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "trainer", stub)
        patch.setattr(kind, "global_step", 0)
        patch.setattr(kind, "optimizers", lambda self: stub)
        patch.setattr(kind, "manual_backward", lambda self, loss: loss.backward())
        yield stub


def iris_data(**options):
    return ready(pytest.importorskip("datamodules.table.iris").IrisDataModule(**options))


def xor_data(**options):
    return ready(pytest.importorskip("datamodules.table.xor").XORDataModule(**options))


def rows_of(data, split="train"):
    """Standardised x (N, D) and target (N,)."""
    x, target = data.points(split)
    return data.transform(x), target


def batches_of(x, target, sizes=None):
    """A DataLoader of the rows in batches of these sizes; by default all in one."""
    parts = zip(*(column.split(sizes or [len(x)]) for column in (x, target, torch.arange(len(x)))), strict=True)
    return DataLoader([Batch(*part) for part in parts], batch_size=None)


def converged(model, x, target):
    """The model at the minimum of its own objective over all rows, in float64, by its own optimizer."""
    model = model.double()
    optimizer = model.configure_optimizers()

    def closure():
        optimizer.zero_grad()
        loss = model.nll(model(x.double()), target, len(target)) + model.penalty()
        loss.backward()
        return loss

    optimizer.step(closure)
    return model


def sklearn_fit(x, target, l2, class_weight=None):
    """scikit-learn's binary model at the same optimum, and its weights with the bias at the end."""
    fitted = LogisticRegression(C=1 / (2 * len(target) * l2), tol=1e-10, max_iter=10_000, class_weight=class_weight)
    fitted.fit(x.double().numpy(), target.numpy())
    return fitted, np.concatenate([fitted.coef_[0], fitted.intercept_])


def weights_of(linear):
    """Weights and bias of a layer with one output, as `sklearn_fit` gives them."""
    return torch.cat([linear.weight.detach().squeeze(0), linear.bias.detach()]).double().numpy()


def grid_over(x):
    axes = [torch.linspace(float(c.min()) - 1, float(c.max()) + 1, 101, dtype=torch.float64) for c in x.T]
    return torch.cartesian_prod(*axes)  # (10201, 2)


def calibration_error(proba, target, bins=15):
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == target
    number = np.ceil(confidence * bins)
    return sum(abs((right - confidence)[number == n].sum()) for n in set(number)) / len(target)
