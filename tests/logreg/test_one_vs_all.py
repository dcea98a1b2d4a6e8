"""The trio: K logits that train as if each were alone, against scikit-learn's OneVsRestClassifier."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.multiclass import OneVsRestClassifier

from logreg.binary import BinaryLogit
from logreg.one_vs_all import OneVsAll
from tests.logreg.helpers import (
    batches_of,
    converged,
    grid_over,
    iris_data,
    newton,
    rows_of,
    sklearn_fit,
    trainer,
    weights_of,
)


def flowers(**options):
    """All three species by petal length and width."""
    return rows_of(iris_data(features=("petal length", "petal width"), **options))


def weights(model):
    """(K, D + 1): each classifier's weights and bias."""
    return np.stack([weights_of(classifier.linear) for classifier in model.classifiers])


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_converged_weights_are_scikit_learns_and_so_is_every_answer_on_the_grid(l2):
    x, target = flowers()
    model = converged(OneVsAll(2, 3, l2=l2, optimizer=newton), x, target)
    logit = LogisticRegression(C=1 / (2 * len(target) * l2), tol=1e-10, max_iter=10_000)
    fitted = OneVsRestClassifier(logit).fit(x.double().numpy(), target.numpy())
    expected = [np.concatenate([m.coef_[0], m.intercept_]) for m in fitted.estimators_]
    np.testing.assert_allclose(weights(model), expected, rtol=1e-3)
    grid = grid_over(x)
    with torch.no_grad():
        proba, classifiers = model.predict_proba(grid), model.predict_proba_per_class(grid)
    np.testing.assert_allclose(proba, fitted.predict_proba(grid.numpy()), atol=1e-3)
    torch.testing.assert_close(proba, classifiers / classifiers.sum(dim=1, keepdim=True))
    for k, classifier in enumerate(fitted.estimators_):
        np.testing.assert_allclose(classifiers[:, k], classifier.predict_proba(grid.numpy())[:, 1], atol=1e-3)
    assert np.array_equal(model.predict_label(proba), fitted.predict(grid.numpy()))
    assert len(model.predict_label(proba).unique()) == 3


@pytest.mark.parametrize("choice", ["balanced", [1.0, 3.0, 0.5]])
def test_class_weights_of_each_classifier_are_scikit_learns(choice):
    """A given weight counts a classifier's own class so often."""
    x, target = flowers(imbalance={"virginica": 0.3})
    counts = torch.bincount(target).tolist()
    model = OneVsAll(2, 3, l2=1e-2, class_weight=choice, class_counts=counts, optimizer=newton)
    ends = weights(converged(model, x, target))
    for k, end in enumerate(ends):
        class_weight = choice if choice == "balanced" else {0: 1.0, 1: choice[k]}
        _, expected = sklearn_fit(x, (target == k).long(), 1e-2, class_weight)
        np.testing.assert_allclose(end, expected, rtol=1e-3)
    assert np.abs(sklearn_fit(x, (target == 2).long(), 1e-2)[1] - ends[2]).max() > 0.1


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
    expected = [weights_of(model.model.linear) for model in alone]
    np.testing.assert_allclose(weights(trio), expected, rtol=1e-5, atol=1e-6)


def test_global_step_counts_each_batch_once():
    data = iris_data(batch_size=16)  # 90 training rows: 6 batches
    run = trainer(max_epochs=3)
    run.fit(OneVsAll(4, 3), data)
    assert run.global_step == 3 * 6


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
    (logged,) = trainer().test(model, batches_of(x, target, [8, 4, 1]), verbose=False)
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": -0.1}, "l2 must be at least 0 and finite, got -0.1"),
        ({"l2": math.nan}, "l2 must be at least 0 and finite, got nan"),
        ({"num_classes": 1}, "num_classes must be at least 2, got 1"),
        ({"class_weight": "balanced"}, "'balanced' needs class_counts"),
        ({"class_weight": [1.0, 2.0]}, "for each of 3 classes"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OneVsAll(**({"num_features": 2, "num_classes": 3} | options))


@pytest.mark.parametrize("model", [OneVsAll(2, 3, l2=1e-2), BinaryLogit(2, l2=1e-2)], ids=["one-vs-all", "binary"])
def test_logged_norms_are_those_of_w_and_of_the_gradient_before_the_update(model):
    x, target = flowers() if isinstance(model, OneVsAll) else (flowers()[0], (flowers()[1] == 1).long())
    weights = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    named = dict(zip(dict(model.named_parameters()), weights, strict=True))
    logits = torch.func.functional_call(model, named, (x,))
    W = torch.cat([weight.flatten() for name, weight in named.items() if name.endswith("weight")])
    (model.nll(logits, target, len(target)) + 1e-2 * W.square().sum()).backward()
    run = trainer(max_steps=1, log_every_n_steps=1, gradient_clip_val=1e-3)
    run.fit(model, batches_of(x, target), batches_of(x, target))
    expected = torch.cat([weight.grad.flatten() for weight in weights]).norm()
    torch.testing.assert_close(run.callback_metrics["train/grad_norm"], expected)
    torch.testing.assert_close(run.callback_metrics["train/W_norm"], W.detach().norm())


def test_norms_are_logged_at_logged_steps_alone(monkeypatch):
    logged = []
    monkeypatch.setattr(OneVsAll, "log", lambda self, name, *args, **options: logged.append((name, self.global_step)))
    x, target = flowers()
    model = OneVsAll(2, 3)
    loader = batches_of(x, target, [15] * 6)
    trainer(max_epochs=2, limit_val_batches=0, log_every_n_steps=3).fit(model, loader, loader)
    assert [step for name, step in logged if name == "train/grad_norm"] == [2, 5, 8, 11]
