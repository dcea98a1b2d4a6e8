"""The numbers behind the pictures, against scikit-learn and answers worked out by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from callbacks.figures.curves import before_scaling, risk_coverage, threshold_curve


def test_temperature_scaling_is_undone():
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    scaled = (logits / 0.7).softmax(dim=1).numpy()
    np.testing.assert_allclose(before_scaling(scaled, 0.7), logits.softmax(dim=1).numpy())


@pytest.mark.parametrize("ties", [False, True])
def test_the_threshold_curve_is_what_each_threshold_gives(ties):
    generator = np.random.default_rng(2)
    proba = generator.dirichlet([0.4] * 5, 400).astype(np.float32)
    target = np.where(generator.random(400) < 0.6, proba.argmax(axis=1), generator.integers(0, 5, 400))
    proba = proba.round(1) if ties else proba
    score, label = proba[:, :4].max(axis=1), proba[:, :4].argmax(axis=1)
    curve, oos = threshold_curve(proba, target, 4), target == 4
    assert len(curve.threshold) == len(target)
    for threshold, accuracy, recall in zip(*curve, strict=True):
        answer = np.where(score < threshold, 4, label)
        assert accuracy == pytest.approx(accuracy_score(target[~oos], answer[~oos]))
        assert recall == pytest.approx((answer == 4)[oos].mean())


def test_risk_coverage_is_the_accuracy_without_the_least_confident():
    handed_over, accuracy = risk_coverage(np.array([0.9, 0.2, 0.6, 0.4]), np.array([True, False, False, True]))
    assert handed_over.tolist() == [0.0, 0.25, 0.5, 0.75]
    assert accuracy.tolist() == pytest.approx([2 / 4, 2 / 3, 1 / 2, 1 / 1])
