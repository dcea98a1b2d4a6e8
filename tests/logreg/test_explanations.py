"""What each feature contributes adds up to the score, for every linear model."""

import pytest
import torch

from logreg.binary import BinaryLogit
from logreg.one_vs_all import OneVsAll


def rows(features=4):
    torch.manual_seed(0)
    x = torch.randn(20, features)
    x[:, 1] = 0
    return x


def test_contributions_and_the_bias_add_up_to_the_log_odds_of_the_label():
    model, x = BinaryLogit(4), rows()
    label = model.predict_label(model.predict_proba(x))
    logits, bias = model(x).tolist(), model.model.linear.bias.item()
    for pairs, k, logit in zip(model.contributions(x, label), label.tolist(), logits, strict=True):
        assert [feature for feature, _ in pairs] == [0, 2, 3]
        sign = 1 if k == 1 else -1
        assert sum(amount for _, amount in pairs) == pytest.approx(sign * (logit - bias), abs=1e-5)


def test_contributions_and_the_bias_add_up_to_the_logit_of_the_labels_own_classifier():
    model, x = OneVsAll(4, 3), rows()
    label = torch.arange(20) % 3
    for pairs, k, logits in zip(model.contributions(x, label), label.tolist(), model(x).tolist(), strict=True):
        bias = model.classifiers[k].linear.bias.item()
        assert sum(amount for _, amount in pairs) + bias == pytest.approx(logits[k], abs=1e-5)


def test_coefficients_of_softmax_regression_are_those_of_its_contributions():
    softmax = pytest.importorskip("logreg.softmax")
    model, x = softmax.SoftmaxRegression(4, 3, seed=0), rows()
    label = model.predict_label(model.predict_proba(x))
    for row, pairs, k in zip(x, model.contributions(x, label), label.tolist(), strict=True):
        assert dict(pairs) == pytest.approx(
            {j: (row[j] * model.coefficients()[j, k]).item() for j in (0, 2, 3)}, abs=1e-6
        )
    logits = model(x)
    centred = x @ model.coefficients()
    torch.testing.assert_close(centred, logits - logits.mean(dim=1, keepdim=True))
