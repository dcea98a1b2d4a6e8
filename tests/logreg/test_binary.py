"""The binary logit model, against scikit-learn and against what XOR allows."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score, roc_auc_score

from datamodules.batches import Batch
from logreg.binary import BinaryLogit
from tests.logreg.helpers import (
    batches_of,
    calibration_error,
    converged,
    grid_over,
    iris_data,
    newton,
    rows_of,
    sklearn_fit,
    trainer,
    weights_of,
    xor_data,
)

each_loss = pytest.mark.parametrize("loss", ["bce", "bce_with_logits"])


@pytest.fixture(scope="module")
def flowers():
    """Versicolor and virginica by petal length and width."""
    return rows_of(iris_data(classes=("versicolor", "virginica"), features=("petal length", "petal width")))


def bare_steps(model, x, target, epochs):
    """`epochs` full-batch updates by the model's own training_step and optimizer, without a Trainer."""
    model.log = lambda *_, **__: None
    optimizer = model.configure_optimizers()
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = model.training_step(Batch(x, target, torch.arange(len(target))), 0)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


# The optimum


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_both_losses_reach_scikit_learns_optimum_and_its_prediction_everywhere_on_the_grid(flowers, l2):
    x, target = flowers
    grid, (fitted, expected) = grid_over(x), sklearn_fit(x, target, l2)
    models = [BinaryLogit(2, loss=loss, l2=l2, optimizer=newton) for loss in ("bce", "bce_with_logits")]
    ends = [weights_of(converged(model, x, target).model.linear) for model in models]
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-4)
    for model, end in zip(models, ends, strict=True):
        np.testing.assert_allclose(end, expected, rtol=1e-3)
        with torch.no_grad():
            proba = model.predict_proba(grid)
        np.testing.assert_allclose(proba, fitted.predict_proba(grid.numpy()), atol=1e-3)
        assert np.array_equal(model.predict_label(proba), fitted.predict(grid.numpy()))
        assert len(model.predict_label(proba).unique()) == 2


@pytest.mark.parametrize("choice", ["balanced", [1.0, 5.0]])
def test_class_weights_are_scikit_learns(choice):
    pair, two = ("versicolor", "virginica"), ("petal length", "petal width")
    x, target = rows_of(iris_data(classes=pair, features=two, imbalance={"virginica": 0.2}))
    counts = torch.bincount(target).tolist()
    assert counts[0] > 3 * counts[1]
    model = BinaryLogit(2, l2=1e-2, class_weight=choice, class_counts=counts, optimizer=newton)
    _, expected = sklearn_fit(x, target, 1e-2, choice if choice == "balanced" else dict(enumerate(choice)))
    np.testing.assert_allclose(weights_of(converged(model, x, target).model.linear), expected, rtol=1e-3)
    _, unweighted = sklearn_fit(x, target, 1e-2)
    assert np.abs(unweighted - expected).max() > 0.1  # so the agreement above is not that of two unweighted fits


@each_loss
def test_trainer_with_lbfgs_from_the_configuration_reaches_scikit_learns_weights(flowers, loss):
    x, target = flowers
    model, batches = BinaryLogit(2, loss=loss, l2=1e-2, optimizer=newton), batches_of(x, target)
    trainer(max_epochs=3, precision="64-true").fit(model, batches, batches)
    np.testing.assert_allclose(weights_of(model.model.linear), sklearn_fit(x, target, 1e-2)[1], rtol=1e-3)


def test_learning_rate_scheduler_of_the_configuration_is_stepped_once_per_epoch():
    half = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    run = trainer(max_epochs=3)
    run.fit(BinaryLogit(2, optimizer=partial(torch.optim.SGD, lr=0.8), lr_scheduler=half), xor_data(batch_size=1))
    assert run.global_step == 3 * 4
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1)


def test_a_schedule_of_lbfgs_goes_on_where_a_resumed_fit_had_come_to(flowers, tmp_path):
    half = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    batches, path = batches_of(*flowers), tmp_path / "last.ckpt"
    for epochs, options in ((2, {}), (3, {"ckpt_path": path, "weights_only": True})):
        run = trainer(max_epochs=epochs)
        run.fit(BinaryLogit(2, optimizer=newton, lr_scheduler=half), batches, batches, **options)
        assert run.optimizers[0].param_groups[0]["lr"] == 0.5**epochs
        run.save_checkpoint(path)


# What is logged


def test_epoch_metrics_are_those_of_all_rows_and_no_means_of_batch_means(flowers):
    x, target = flowers
    rows = torch.cat([torch.nonzero(target == 0).flatten()[:9], torch.nonzero(target == 1).flatten()[:4]])
    x, target, sizes = x[rows], target[rows], [8, 4, 1]  # the first and the last batch of a single class
    model = BinaryLogit(2, l2=0.1)
    torch.nn.init.constant_(model.model.linear.weight, 1.0)
    torch.nn.init.constant_(model.model.linear.bias, 0.3)
    (logged,) = trainer().test(model, batches_of(x, target, sizes), verbose=False)

    with torch.no_grad():
        proba = model.predict_proba(x).numpy()
    truth, predicted = target.numpy(), proba.argmax(axis=1)
    expected = {
        "test/loss": log_loss(truth, proba),
        "test/objective": log_loss(truth, proba) + 0.1 * 2,  # and the penalty, l2 · Σw² = 0.1 · 2
        "test/accuracy": accuracy_score(truth, predicted),
        "test/precision": precision_score(truth, predicted),
        "test/recall": recall_score(truth, predicted),
        "test/f1": f1_score(truth, predicted),
        "test/macro_f1": f1_score(truth, predicted, average="macro"),
        "test/auroc": roc_auc_score(truth, proba[:, 1]),
        "test/nll": log_loss(truth, proba),
        "test/ece": calibration_error(proba, truth),
    }
    assert logged == pytest.approx(expected, abs=1e-5)
    assert 0 < expected["test/accuracy"] < 1
    pieces = np.split(np.arange(13), np.cumsum(sizes)[:-1])
    batch_means = np.mean([accuracy_score(truth[piece], predicted[piece]) for piece in pieces])
    assert abs(batch_means - expected["test/accuracy"]) > 0.01
    unweighted = np.mean([log_loss(truth[p], proba[p], labels=[0, 1]) for p in pieces])
    assert abs(unweighted - expected["test/loss"]) > 0.01


def test_the_training_objective_includes_the_penalty_as_the_validation_objective_does(flowers):
    x, target = flowers
    model = BinaryLogit(2, l2=0.5)
    model.log = lambda *_, **__: None
    with torch.no_grad():
        expected = log_loss(target.numpy(), model.predict_proba(x).numpy())
        expected += 0.5 * float(model.model.linear.weight.square().sum())
        assert float(model.training_step((x, target), 0)) == pytest.approx(expected, abs=1e-5)


# XOR


@pytest.mark.parametrize("lr", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_on_xor_loss_ends_at_log_2_and_every_probability_at_one_half(optimizer, lr):
    """The optimum is w = 0, b = 0; accuracy is a coin toss there (0.25, 0.5 or 0.75), so it is not asserted."""
    for seed in range(5):
        torch.manual_seed(seed)
        x, target = rows_of(xor_data(seed=seed))
        model = BinaryLogit(2, optimizer=partial(optimizer, lr=lr))
        assert model.model.linear.weight.abs().max() > 0.05  # it does start elsewhere
        loss = bare_steps(model, x, target, epochs=200)
        assert abs(loss - math.log(2)) < 1e-3
        assert (model.predict_proba(x) - 0.5).abs().max() < 0.02


def test_no_line_answers_all_four_corners_of_xor_rightly():
    x, target = rows_of(xor_data())
    best = 0.0
    model = BinaryLogit(2)
    for w1, w2, b in itertools.product([-1.0, -0.5, 0.0, 0.5, 1.0], repeat=3):
        model.model.linear.weight.data = torch.tensor([[w1, w2]])
        model.model.linear.bias.data = torch.tensor([b])
        best = max(best, float((model.predict_label(model.predict_proba(x)) == target).float().mean()))
    assert best == 0.75


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_with_the_interaction_xor_is_classified_rightly_everywhere(noise):
    data = xor_data(rows_per_corner=25, noise=noise, interaction=True, batch_size=100)
    model = BinaryLogit(data.num_features, l2=0.001, optimizer=partial(torch.optim.SGD, lr=0.5))
    assert bare_steps(model, *rows_of(data), 100) < 0.3
    for split in ("train", "val", "test"):
        x, target = rows_of(data, split)
        assert torch.equal(model.predict_label(model.predict_proba(x)), target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": -0.1}, "l2 must be at least 0 and finite, got -0.1"),
        ({"l2": math.nan}, "l2 must be at least 0 and finite, got nan"),
        ({"class_counts": [5, 5, 5]}, "exactly 2 classes, got 3; try OneVsAll"),
        ({"class_weight": "balanced"}, "'balanced' needs class_counts"),
        ({"class_weight": [1.0, 2.0, 3.0]}, "class_weight .* for each of 2 classes"),
        ({"loss": "mse"}, "loss must be 'bce_with_logits' or 'bce', got 'mse'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BinaryLogit(2, **options)
