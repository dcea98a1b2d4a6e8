"""coefficients.csv: by hand and beside scikit-learn, and for which models there is none."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from callbacks.reports.coefficients import CoefficientsWriter, log_odds
from datamodules.table.tabular import Table, TabularDataModule
from logreg.binary import BinaryLogit
from logreg.net_classifier import NetClassifier
from logreg.one_vs_all import OneVsAll
from tests.tools.runs import quiet_trainer, read_csv

X = np.random.default_rng(0).normal([170, 0.02], [10, 0.01], size=(120, 2)).astype(np.float32)
TARGET = (X[:, 0] / 10 - 400 * X[:, 1] + np.random.default_rng(1).normal(size=120) > 9).astype(int)


class People(TabularDataModule):
    def load_table(self):
        return Table(X, TARGET, ["height", "share"], ["no", "yes"])


def fit(model, data, path, epochs=5):
    quiet_trainer(path, CoefficientsWriter(), max_epochs=epochs).fit(model, data)
    if not (path / "coefficients.csv").is_file():
        return None
    rows = read_csv(path / "coefficients.csv")
    return {row.pop("feature"): {name: float(value) for name, value in row.items()} for row in rows}


def newton(parameters):
    return torch.optim.LBFGS(parameters, max_iter=50, line_search_fn="strong_wolfe")


def test_weights_are_scikit_learns_in_both_units_and_odds_ratios_are_their_exponentials(tmp_path, capsys):
    data = People(batch_size=1_000)
    found = fit(BinaryLogit(2, l2=1e-2, optimizer=newton), data, tmp_path)
    x, target = (tensor.numpy() for tensor in data.points("train"))
    mean, scale = x.mean(axis=0, dtype=float), x.std(axis=0, dtype=float)
    expected = LogisticRegression(C=1 / (2 * len(x) * 1e-2), tol=1e-8).fit((x - mean) / scale, target)
    assert list(found) == ["height", "share", "(intercept)"]
    for k, name in enumerate(("height", "share")):
        w = expected.coef_[0, k]
        assert found[name]["weight_standardised"] == pytest.approx(w, rel=1e-3)
        assert found[name]["weight_raw"] == pytest.approx(w / scale[k], rel=1e-3)
        assert found[name]["odds_ratio_standardised"] == pytest.approx(math.exp(w), rel=1e-2)
        assert found[name]["odds_ratio_raw"] == pytest.approx(math.exp(w / scale[k]), rel=0.1)
    raw = np.array([found[name]["weight_raw"] for name in ("height", "share")])
    logits = x @ raw + found["(intercept)"]["weight_raw"]
    assert logits == pytest.approx(expected.decision_function((x - mean) / scale), abs=1e-2)
    assert capsys.readouterr().out == ""


def test_they_are_those_of_the_best_state_and_the_model_is_left_as_it_was(tmp_path):
    model = BinaryLogit(2, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    found = fit(model, People(), tmp_path)
    [path] = tmp_path.rglob("*.ckpt")
    saved = torch.load(path, weights_only=True)["state_dict"]["model.linear.weight"]
    assert found["share"]["weight_standardised"] == pytest.approx(float(saved[0, 1]), rel=1e-4)
    assert torch.equal(saved, model.state_dict()["model.linear.weight"])


def test_softmax_of_two_classes_has_them_too():
    softmax = pytest.importorskip("logreg.softmax", reason="deleted with its tasks")
    model = softmax.SoftmaxRegression(3, 2, seed=0)
    w, b = log_odds(model)
    assert w.tolist() == pytest.approx((model.W.dense()[:, 1] - model.W.dense()[:, 0]).tolist(), abs=1e-6)
    assert b == 0


@pytest.mark.parametrize(
    "of_model",
    [
        lambda: OneVsAll(2, 2),
        lambda: NetClassifier(nn.Sequential(nn.Linear(2, 9), nn.Tanh(), nn.Linear(9, 2)), 2, optimizer=newton),
    ],
)
def test_a_model_whose_log_odds_are_no_line_has_none(tmp_path, of_model):
    torch.manual_seed(0)
    assert fit(of_model(), People(), tmp_path) is None


def test_three_classes_have_none(tmp_path):
    class Three(People):
        def load_table(self):
            return Table(X, np.arange(120) % 3, ["height", "share"], "abc")

    assert fit(OneVsAll(2, 3), Three(), tmp_path) is None


def test_at_a_temperature_they_are_those_of_the_log_odds_that_predict_gives(tmp_path):
    model = BinaryLogit(2, l2=1e-2, calibrate=2.0, optimizer=newton)
    found, x = fit(model, People(batch_size=1_000), tmp_path), torch.tensor([[1.5, -0.5]])
    w = torch.tensor([found[name]["weight_standardised"] for name in ("height", "share")])
    b = found["(intercept)"]["weight_standardised"]
    assert float((x @ w + b).sigmoid()) == pytest.approx(model.predict_proba(x)[0, 1].item(), rel=1e-3)
