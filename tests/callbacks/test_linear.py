"""The coefficients of every linear model give its logits, and the contributions of features add up to its scores."""

from functools import partial

import pytest
import torch

from callbacks.linear import class_scores, contributions
from logreg.binary import BinaryLogit
from logreg.one_vs_all import OneVsAll


def softmax(num_features, num_classes):
    module = pytest.importorskip("logreg.softmax", reason="deleted with its tasks")
    model = module.SoftmaxRegression(num_features, num_classes, seed=0)
    model.W.scale = 0.5
    model.b.data += torch.arange(num_classes)
    return model


MODELS = {
    "binary": lambda: BinaryLogit(4),
    "one-vs-all": lambda: OneVsAll(4, 3),
    "softmax": lambda: softmax(4, 3),
    "softmax of two": lambda: softmax(4, 2),
}
models = pytest.mark.parametrize("name", MODELS)


def rows(features=4):
    torch.manual_seed(0)
    x = torch.randn(20, features)
    x[:, 1] = 0
    return x


@models
def test_coefficients_give_the_logits(name):
    model, x = MODELS[name](), rows()
    W, b = model.coefficients()
    columns = {"binary": 1, "softmax of two": 2}.get(name, 3)
    assert (W.shape, b.shape) == ((4, columns), (columns,))
    torch.testing.assert_close(x @ W + b, model(x).reshape(20, -1))


@models
@pytest.mark.parametrize("sparse", [False, True])
def test_contributions_add_up_to_the_score_of_the_label(name, sparse):
    model, x = MODELS[name](), rows()
    label = torch.arange(20) % (2 if name in ("binary", "softmax of two") else 3)
    W, b = model.coefficients()
    logits = (model(x).reshape(20, -1) - b).detach()
    scores = {
        "binary": lambda: torch.cat([-logits, logits], dim=1),
        "one-vs-all": lambda: logits,
        "softmax": lambda: logits - logits.mean(dim=1, keepdim=True),
        "softmax of two": lambda: logits - logits.flip(1),  # log-odds
    }[name]()
    found = contributions(x.to_sparse_csr() if sparse else x, W, label, partial(class_scores, model))
    assert all([feature for feature, _ in parts] == [0, 2, 3] for parts in found)
    total = torch.tensor([sum(amount for _, amount in parts) for parts in found])
    torch.testing.assert_close(total, scores.gather(1, label.unsqueeze(1))[:, 0], atol=1e-5, rtol=1e-5)


def test_contributions_name_the_features_of_their_row_alone():
    x = torch.tensor([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    for rows in (x, x.to_sparse_csr()):
        first, second = contributions(rows, torch.ones(4, 3), torch.tensor([0, 1]), lambda W: W)
        assert first == [(1, 2.0), (3, 1.0)]
        assert second == []
