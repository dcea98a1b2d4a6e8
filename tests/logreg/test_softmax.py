"""Softmax regression by hand: the same as the article's loop, the same as scikit-learn, and honest to the Trainer."""

import os
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from scipy.sparse import random as random_sparse
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules.batches import BatchedDataset
from datamodules.sampler import ResumableBatchSampler, StatefulDataLoader
from datamodules.text.clinc150 import CLINC150DataModule
from datamodules.text.sparse_rows import SparseRows
from examples.from_scratch import train
from logreg.functional import cross_entropy, l2_penalty
from logreg.optimizers import DecayToZero
from logreg.softmax import SoftmaxRegression
from tests.logreg import helpers
from tests.tools.ready import ready

# Most tests train without a validation set, which Lightning remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
needs_clinc150 = pytest.mark.skipif("CLINC150_DIR" not in os.environ, reason="CLINC150_DIR names no copy of the data")


def article_loop(batches: list[tuple[Tensor, Tensor]], d: int, c: int, lr: float, l2: float, seed: int):
    """Article 2's training: the objective at each step, and the W and b it ends with."""
    losses = []
    for step in train(batches, d, c, lr, l2, seed):  # one at a time: each has a copy of W
        losses.append(step.loss)
    return losses, step.W, step.b


class Recorded(L.Callback):
    """Keeps the objective that the model logs at every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer, *_) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, *_) -> None:
        self.losses.append(trainer.callback_metrics["train/objective"].item())


def trainer(**options) -> L.Trainer:
    return helpers.trainer(**{"max_epochs": 1, "limit_val_batches": 0, "log_every_n_steps": 1} | options)


def sparse_problem(n: int = 60, d: int = 20, k: int = 3, seed: int = 0):
    """A CSR matrix (n, d) and labels that follow from it."""
    matrix = random_sparse(n, d, density=0.3, format="csr", random_state=seed, dtype=np.float32)
    target = torch.from_numpy(np.asarray((matrix @ np.random.default_rng(seed).normal(size=(d, k))).argmax(1)))
    return matrix, target


def loader(matrix, target, batch_size: int = 16, shuffle: bool = False, seed: int = 0) -> StatefulDataLoader:
    return StatefulDataLoader(
        BatchedDataset(SparseRows(matrix).gather, target),
        sampler=ResumableBatchSampler(len(target), batch_size, shuffle=shuffle, seed=seed),
    )


@pytest.mark.parametrize("l2", [0.0, 1e-2])
def test_equals_the_article_loop_at_every_step(l2):
    matrix, target = sparse_problem()
    dense = torch.from_numpy(matrix.toarray())
    batches = ResumableBatchSampler(60, 16, shuffle=True, seed=3)
    rows = []
    for epoch in range(5):
        batches.set_epoch(epoch)
        rows += [drawn.indices for drawn in batches]
    losses, W, b = article_loop([(dense[r], target[r]) for r in rows], 20, 3, lr=0.5, l2=l2, seed=42)

    model, recorded = SoftmaxRegression(20, 3, lr=0.5, l2=l2, seed=42), Recorded()
    trainer(max_epochs=5, callbacks=[recorded]).fit(model, loader(matrix, target, shuffle=True, seed=3))

    torch.testing.assert_close(torch.tensor(recorded.losses), torch.tensor(losses), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(model.W.dense().detach(), W, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(model.b.detach(), b, atol=1e-6, rtol=1e-6)


@needs_clinc150
@pytest.mark.slow
def test_equals_the_article_loop_on_clinc150_for_180_steps():
    data = ready(CLINC150DataModule(batch_size=256, seed=42))
    model, recorded = SoftmaxRegression(data.num_features, 151, lr=0.1, l2=1e-4, seed=42), Recorded()
    trainer(max_steps=180, max_epochs=-1, callbacks=[recorded]).fit(model, data)

    rows, batches = data.dataset("train"), ResumableBatchSampler(15_100, 256, shuffle=True, seed=42)
    dense = []
    for epoch in range(4):
        batches.set_epoch(epoch)
        dense += [(rows[drawn].x, rows[drawn].target) for drawn in batches]
    losses, W, b = article_loop(
        ((x.to_dense(), y) for x, y in dense[:180]), data.num_features, 151, lr=0.1, l2=1e-4, seed=42
    )
    assert len(recorded.losses) == 180
    torch.testing.assert_close(torch.tensor(recorded.losses), torch.tensor(losses), atol=1e-5, rtol=0)
    torch.testing.assert_close(model.W.dense().detach(), W, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.b.detach(), b, atol=1e-5, rtol=0)


def converged(matrix, target, num_classes: int, lr: float, steps: int, **options) -> SoftmaxRegression:
    """Full-batch training by the model's own training_step."""
    model = SoftmaxRegression(matrix.shape[1], num_classes, lr=lr, **options)
    x = SparseRows(matrix).gather(next(iter(ResumableBatchSampler(len(target), len(target)))))
    with helpers.without_trainer(SoftmaxRegression, lr):
        for _ in range(steps):
            model.training_step((x, target), 0)
    return model


def objective(logits: Tensor, target: Tensor, W: Tensor, l2: float) -> float:
    return (cross_entropy(logits, target) + l2_penalty(W, l2)).item()


@pytest.mark.parametrize("bias_lr_factor", [1.0, 0.1])
def test_reaches_the_optimum_that_scikit_learn_finds(bias_lr_factor):
    matrix, target = sparse_problem(n=200)
    l2 = 1e-3
    model = converged(matrix, target, 3, lr=2.0, steps=1500, l2=l2, bias_lr_factor=bias_lr_factor)
    reference = LogisticRegression(C=1 / (2 * 200 * l2), tol=1e-8, max_iter=10_000).fit(matrix, target)
    expected = torch.from_numpy(reference.coef_.T).float()
    torch.testing.assert_close(model.W.dense().detach(), expected, rtol=1e-3, atol=1e-3)
    assert (model(torch.from_numpy(matrix.toarray())).argmax(1).numpy() == reference.predict(matrix)).all()


@needs_clinc150
@pytest.mark.slow
def test_reaches_scikit_learns_objective_on_2000_rows_of_clinc150():
    data = ready(CLINC150DataModule(seed=42))
    texts, labels = data.load_splits()["train"]
    picked = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))[:2000]
    matrix = data.vectorize([texts[i] for i in picked])
    target = torch.tensor([data.class_names.index(labels[i]) for i in picked])
    l2 = 1e-4
    model = converged(matrix, target, 151, lr=30.0, steps=600, l2=l2)
    reference = LogisticRegression(C=1 / (2 * 2000 * l2), tol=1e-8, max_iter=10_000).fit(matrix, target)
    W, b = torch.from_numpy(reference.coef_.T).float(), torch.from_numpy(reference.intercept_).float()
    x = torch.from_numpy(matrix.toarray())
    theirs = objective(x @ W + b, target, W, l2)
    ours = objective(model(x), target, model.W.dense(), l2)
    assert ours <= theirs * (1 + 1e-4)
    val = data.vectorize(data.load_splits()["val"][0])
    agree = (model(torch.from_numpy(val.toarray())).argmax(1).numpy() == reference.predict(val)).mean()
    assert agree >= 0.995


def test_global_step_counts_updates_and_max_steps_stops():
    matrix, target = sparse_problem()
    run = trainer(max_epochs=-1, max_steps=7)
    run.fit(SoftmaxRegression(20, 3), loader(matrix, target))
    assert run.global_step == 7


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (None, [1.0, 1.0, 1.0, 1.0]),
        (partial(DecayToZero, shape="linear"), [1.0, 0.75, 0.5, 0.25]),
        (partial(DecayToZero, shape="cosine"), [1.0, 0.853553, 0.5, 0.146447]),
        (partial(DecayToZero, shape="triangle"), [0.4, 0.8, 0.8, 0.4]),
        (partial(DecayToZero, shape="linear", part=0.5), [1.0, 0.75, 0.5, 0.25]),
        (partial(DecayToZero, shape="triangle", part=0.25), [0.2, 0.4, 0.4, 0.2]),  # up to there 0.25 in the mean
        (partial(DecayToZero, shape="triangle", power=3), [0.064, 0.512, 0.512, 0.064]),
    ],
)
def test_rate_of_each_step_follows_the_schedule(scheduler, expected):
    matrix, target = sparse_problem()
    recorded = Recorded()
    model = SoftmaxRegression(20, 3, lr=1.0, lr_scheduler=scheduler)
    trainer(callbacks=[recorded]).fit(model, loader(matrix, target))
    assert recorded.rates == pytest.approx(expected, abs=1e-6)


def test_a_schedule_of_torch_made_for_single_steps_is_stepped_at_every_step():
    cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=8, cycle_momentum=False)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler, expected = cycle(optimizer), []
    for _ in range(8):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step(), scheduler.step()

    matrix, target = sparse_problem()
    recorded = Recorded()
    model = SoftmaxRegression(20, 3, lr=0.1, lr_scheduler=cycle)
    trainer(max_epochs=2, callbacks=[recorded]).fit(model, loader(matrix, target))
    assert recorded.rates == expected


def test_sparse_and_dense_rows_give_the_same_update():
    matrix, target = sparse_problem()
    sparse, dense = (SoftmaxRegression(20, 3, lr=0.5, l2=1e-3, seed=0) for _ in range(2))
    trainer(max_epochs=3).fit(sparse, loader(matrix, target))
    x = torch.from_numpy(matrix.toarray())
    rows = torch.arange(60)
    trainer(max_epochs=3).fit(dense, DataLoader([(x[r], target[r], rows[r]) for r in rows.split(16)], batch_size=None))
    torch.testing.assert_close(sparse.W.dense(), dense.W.dense())
    torch.testing.assert_close(sparse.b, dense.b)


def test_logged_norms_are_those_of_w_and_of_the_gradient_before_it_is_zeroed():
    matrix, target = sparse_problem()
    model = SoftmaxRegression(20, 3, lr=0.5, l2=1e-2)
    W = model.W.dense().detach().clone().requires_grad_()
    b = torch.zeros(3, requires_grad=True)
    loss = cross_entropy(torch.from_numpy(matrix.toarray()) @ W + b, target) + l2_penalty(W, 1e-2)
    loss.backward()
    run = trainer(max_epochs=-1, max_steps=1)
    run.fit(model, loader(matrix, target, batch_size=60))
    expected = torch.cat([W.grad.flatten(), b.grad]).norm()
    torch.testing.assert_close(run.callback_metrics["train/grad_norm"], expected)
    torch.testing.assert_close(run.callback_metrics["train/W_norm"], W.detach().norm())
    torch.testing.assert_close(run.callback_metrics["train/objective"], loss.detach())
    torch.testing.assert_close(run.callback_metrics["train/loss"], loss.detach() - l2_penalty(W.detach(), 1e-2))


UNSUPPORTED = r"not supported for manual optimization. Remove `Trainer\("
AVERAGES = "WeightAveraging does not apply to an update written by hand: leave it out"


@pytest.mark.parametrize(
    ("options", "scheduler", "message"),
    [
        ({"gradient_clip_val": 1.0}, None, UNSUPPORTED + "gradient_clip_val="),  # Lightning's own refusal
        ({"accumulate_grad_batches": 2}, None, UNSUPPORTED + "accumulate_grad_batches="),
        ({"callbacks": [EMAWeightAveraging()]}, None, AVERAGES),  # the scale would be averaged apart
        ({"callbacks": [StochasticWeightAveraging(swa_lrs=0.1)]}, None, AVERAGES),
        ({"max_epochs": -1}, DecayToZero, r"set trainer\.max_epochs or trainer\.max_steps"),
    ],
)
def test_trainer_options_that_do_not_go_with_the_update_are_refused(options, scheduler, message):
    matrix, target = sparse_problem()
    with pytest.raises((ValueError, MisconfigurationException), match=message):
        trainer(**options).fit(SoftmaxRegression(20, 3, lr_scheduler=scheduler), loader(matrix, target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be above 0, got 0.0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"l2": -1.0}, "l2 must be at least 0"),
        ({"lr": 1000.0, "l2": 1e-3}, "less than 1 / "),
        ({"clip_norm": 0.0}, "clip_norm must be above 0"),
        ({"l2": float("inf")}, "l2 must be at least 0"),
        ({"threshold": 0.5}, "out-of-scope label"),
        ({"threshold": 1.5, "oos_class": 2}, r"threshold must lie in \[0, 1\], got 1.5"),
        ({"threshold": "validation"}, "out-of-scope label"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxRegression(20, 3, **options)


def test_a_checkpoint_in_mid_epoch_predicts_as_the_model_did(tmp_path):
    matrix, target = sparse_problem()
    model = SoftmaxRegression(20, 3, lr=0.5, l2=0.1)
    run = trainer(max_epochs=-1, max_steps=2)
    run.fit(model, loader(matrix, target))
    run.save_checkpoint(tmp_path / "mid.ckpt")
    loaded = SoftmaxRegression.load_from_checkpoint(tmp_path / "mid.ckpt", weights_only=True)
    x = SparseRows(matrix).gather(next(iter(ResumableBatchSampler(60, 60))))
    assert torch.equal(loaded.predict_proba(x), model.predict_proba(x))
    assert torch.equal(loaded.W.dense(), model.W.dense())


def test_a_schedule_of_torch_is_stepped_once_per_epoch():
    matrix, target = sparse_problem()
    recorded = Recorded()
    half = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    model = SoftmaxRegression(20, 3, lr=1.0, lr_scheduler=half)
    trainer(max_epochs=3, callbacks=[recorded]).fit(model, loader(matrix, target, batch_size=30))
    assert recorded.rates == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_trains_and_predicts_on_an_ordinary_dataloader_of_pairs():
    matrix, target = sparse_problem()
    x = torch.from_numpy(matrix.toarray())
    pairs = DataLoader(TensorDataset(x, target), batch_size=16)
    model, run = SoftmaxRegression(20, 3, lr=0.5), trainer(limit_val_batches=1.0)
    run.fit(model, pairs, pairs)
    run.test(model, pairs, verbose=False)
    for rows in (pairs, DataLoader(x, batch_size=16)):
        proba = torch.cat(run.predict(model, rows))
        torch.testing.assert_close(proba, model.predict_proba(x).detach())
