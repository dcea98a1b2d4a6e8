"""The trio: K logits that train as if each were alone, against scikit-learn's OneVsRestClassifier."""

import math
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as SklearnLogit
from sklearn.metrics import accuracy_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from torch.utils.data import DataLoader

from datamodules.batches import Batch
from logreg.binary import BinaryLogit
from logreg.one_vs_all import OneVsAll

newton = partial(
    torch.optim.LBFGS, lr=1.0, max_iter=500, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
)
plain = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "enable_checkpointing": False}


def iris_data(**options):
    return pytest.importorskip("datamodules.table.iris").IrisDataModule(**options)


def flowers(features=("petal length", "petal width"), **options):
    """Standardised training rows of all three species."""
    data = iris_data(features=features, **options)
    x, target = data.points("train")
    return data.transform(x), target


def converge(model, x, target):
    """Minimise the model's own objective over all rows, in float64, with the optimizer of its configuration."""
    model = model.double()
    optimizer = model.configure_optimizers()

    def closure():
        optimizer.zero_grad()
        loss = model.nll(model(x.double()), target, len(target)) + model.penalty()
        loss.backward()
        return loss

    optimizer.step(closure)
    return model


def weights(model):
    """(K, D + 1): each classifier's weights and bias."""
    rows = [torch.cat([m.linear.weight.detach().squeeze(0), m.linear.bias.detach()]) for m in model.classifiers]
    return torch.stack(rows).double().numpy()


def sklearn_fit(x, target, l2, class_weight=None):
    logit = SklearnLogit(C=1 / (2 * len(target) * l2), tol=1e-10, max_iter=10_000, class_weight=class_weight)
    fitted = OneVsRestClassifier(logit).fit(x.double().numpy(), target.numpy())
    return fitted, np.stack([np.concatenate([m.coef_[0], m.intercept_]) for m in fitted.estimators_])


def grid_over(x):
    axes = [torch.linspace(float(c.min()) - 1, float(c.max()) + 1, 101, dtype=torch.float64) for c in x.T]
    return torch.cartesian_prod(*axes)


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_converged_weights_are_scikit_learns_and_so_is_every_answer_on_the_grid(l2):
    x, target = flowers()
    model = converge(OneVsAll(2, 3, l2=l2, optimizer=newton), x, target)
    fitted, expected = sklearn_fit(x, target, l2)
    np.testing.assert_allclose(weights(model), expected, rtol=1e-3)
    grid = grid_over(x)
    with torch.no_grad():
        proba, classifiers = model.predict_proba(grid), model.predict_proba_per_class(grid)
    np.testing.assert_allclose(proba, fitted.predict_proba(grid.numpy()), atol=1e-3)
    for k, classifier in enumerate(fitted.estimators_):
        np.testing.assert_allclose(classifiers[:, k], classifier.predict_proba(grid.numpy())[:, 1], atol=1e-3)
    assert np.array_equal(model.predict_label(proba), fitted.predict(grid.numpy()))
    assert len(model.predict_label(proba).unique()) == 3


def test_balanced_class_weights_are_scikit_learns():
    x, target = flowers(imbalance={"virginica": 0.3})
    counts = torch.bincount(target).tolist()
    model = OneVsAll(2, 3, l2=1e-2, class_weight="balanced", class_counts=counts, optimizer=newton)
    _, expected = sklearn_fit(x, target, 1e-2, "balanced")
    np.testing.assert_allclose(weights(converge(model, x, target)), expected, rtol=1e-3)
    assert np.abs(sklearn_fit(x, target, 1e-2)[1] - expected).max() > 0.1


def test_given_class_weights_count_each_classifiers_own_class_so_often():
    x, target = flowers()
    model = OneVsAll(2, 3, l2=1e-2, class_weight=[1.0, 3.0, 0.5], optimizer=newton)
    ends = weights(converge(model, x, target))
    for k, own in enumerate([1.0, 3.0, 0.5]):
        logit = SklearnLogit(C=1 / (2 * len(target) * 1e-2), tol=1e-10, max_iter=10_000, class_weight={0: 1.0, 1: own})
        logit.fit(x.double().numpy(), (target == k).long().numpy())
        np.testing.assert_allclose(ends[k], np.concatenate([logit.coef_[0], logit.intercept_]), rtol=1e-3)


def test_classifiers_train_as_if_each_were_alone():
    x, target = flowers()
    step = partial(torch.optim.SGD, lr=0.5)
    trio = OneVsAll(2, 3, l2=0.01, optimizer=step)
    alone = [BinaryLogit(2, l2=0.01, optimizer=step) for _ in range(3)]
    for classifier, single in zip(trio.classifiers, alone, strict=True):
        single.model.load_state_dict(classifier.state_dict())
    optimizers = [model.configure_optimizers() for model in (trio, *alone)]
    for _ in range(20):
        losses = [trio.nll(trio(x), target, len(x)) + trio.penalty()]
        losses += [m.nll(m(x), (target == k).long(), len(x)) + m.penalty() for k, m in enumerate(alone)]
        torch.testing.assert_close(losses[0], sum(losses[1:]))
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    expected = [torch.cat([m.model.linear.weight.squeeze(0), m.model.linear.bias]) for m in alone]
    np.testing.assert_allclose(weights(trio), torch.stack(expected).detach(), rtol=1e-5, atol=1e-6)


def test_global_step_counts_each_batch_once():
    data = iris_data(batch_size=16)  # 90 training rows: 6 batches
    trainer = L.Trainer(max_epochs=3, accelerator="cpu", devices=1, **plain)
    trainer.fit(OneVsAll(4, 3), data)
    assert trainer.global_step == 3 * 6


def test_rows_of_proba_sum_to_one_and_are_the_sigmoids_divided_by_their_sum():
    model = OneVsAll(2, 3)
    x = 3 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    classifiers, proba = model.predict_proba_per_class(x), model.predict_proba(x)
    torch.testing.assert_close(classifiers, torch.sigmoid(model(x)))
    torch.testing.assert_close(proba, classifiers / classifiers.sum(dim=1, keepdim=True))
    torch.testing.assert_close(proba.sum(dim=1), torch.ones(50))
    assert (classifiers.sum(dim=1) - 1).abs().max() > 0.01


def test_where_every_sigmoid_underflows_rows_still_sum_to_one_and_the_most_confident_classifier_still_wins():
    model = OneVsAll(1, 3)
    for classifier, slope in zip(model.classifiers, (-300.0, -200.0, -250.0), strict=True):
        torch.nn.init.constant_(classifier.linear.weight, slope)
        torch.nn.init.zeros_(classifier.linear.bias)
    x = torch.ones(1, 1)
    assert model.predict_proba_per_class(x).tolist() == [[0.0, 0.0, 0.0]]
    proba = model.predict_proba(x).detach()
    assert float(proba.sum()) == pytest.approx(1.0)
    assert model.predict_label(proba).tolist() == [1]


def test_epoch_metrics_are_those_of_all_rows_and_each_classifiers_accuracy_has_its_class_in_the_name():
    x, target = flowers()
    rows = torch.cat([torch.nonzero(target == k).flatten()[:count] for k, count in enumerate((6, 4, 3))])
    x, target = x[rows], target[rows]
    torch.manual_seed(3)
    model = OneVsAll(2, 3, class_names=["a", "b", "c"], l2=0.1)
    pieces = [slice(0, 8), slice(8, 12), slice(12, 13)]
    loader = DataLoader([Batch(x[p], target[p], torch.arange(13)[p]) for p in pieces], batch_size=None)
    trainer = L.Trainer(accelerator="cpu", devices=1, **plain)
    (logged,) = trainer.test(model, loader, verbose=False)
    with torch.no_grad():
        predicted, sigmoids = model.predict_label(model.predict_proba(x)), model.predict_proba_per_class(x).double()
        own = torch.nn.functional.one_hot(target, 3)
        nll = torch.nn.functional.binary_cross_entropy(sigmoids, own.double(), reduction="sum") / len(x)
    assert logged["test/accuracy"] == pytest.approx(accuracy_score(target, predicted))
    assert logged["test/macro_f1"] == pytest.approx(f1_score(target, predicted, average="macro"))
    assert logged["test/loss"] == pytest.approx(float(nll), rel=1e-5)
    assert logged["test/objective"] == pytest.approx(float(nll + model.penalty().detach()), rel=1e-5)
    for k, name in enumerate("abc"):
        right = ((sigmoids[:, k] > 0.5) == (target == k)).double().mean()
        assert logged[f"test/accuracy_{name}"] == pytest.approx(float(right))
    assert 0 < logged["test/accuracy"] < 1


def test_accuracies_of_the_classifiers_start_afresh_with_every_validation():
    x, target = flowers()
    model = OneVsAll(2, 3, class_names=["a", "b", "c"])
    loader = DataLoader([Batch(x, target, torch.arange(len(x)))], batch_size=None)
    trainer = L.Trainer(accelerator="cpu", devices=1, **plain)
    trainer.validate(model, loader, verbose=False)
    converged = converge(OneVsAll(2, 3, class_names=["a", "b", "c"], l2=1e-3, optimizer=newton), x, target)
    model.load_state_dict(converged.state_dict())
    (logged,) = trainer.validate(model.float(), loader, verbose=False)
    assert logged["val/accuracy_a"] == 1.0  # setosa is separated perfectly


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": -0.1}, "l2 must be at least 0 and finite, got -0.1"),
        ({"l2": math.nan}, "l2 must be at least 0 and finite, got nan"),
        ({"num_classes": 1}, "num_classes must be at least 2, got 1"),
        ({"class_weight": "balanced"}, "'balanced' needs class_counts"),
        ({"class_weight": [1.0, 2.0]}, "for each of 3 classes"),
        ({"class_weight": [1.0, 2.0, -3.0]}, "finite number of at least 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OneVsAll(**({"num_features": 2, "num_classes": 3} | options))
