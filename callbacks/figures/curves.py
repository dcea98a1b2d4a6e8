"""The numbers behind the pictures of an evaluation that scikit-learn and torchmetrics have not.

N rows, K classes. `target` and `predicted` are class indices (N,), `proba` is (N, K).
"""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class ThresholdCurve(NamedTuple):
    """Of each threshold, ascending: the share of in-scope rows given their class, and of out-of-scope rows rejected."""

    threshold: Array
    in_scope_accuracy: Array
    oos_recall: Array

    def at(self, threshold: float) -> tuple[float, float]:
        """Out-of-scope recall and in-scope accuracy at a threshold."""
        number = min(int(np.searchsorted(self.threshold, threshold)), len(self.threshold) - 1)
        return float(self.oos_recall[number]), float(self.in_scope_accuracy[number])


def interval(right: Any, rows: Any) -> tuple[Any, Any]:
    """Wilson's 95% interval of a share, of which `right` of `rows` were seen; numbers or arrays.

    >>> "{:.3f} to {:.3f}".format(*interval(19, 20))
    '0.764 to 0.991'
    """
    z = 1.96
    middle, half = right + z**2 / 2, z * np.sqrt(right * (rows - right) / rows + z**2 / 4)
    return (middle - half) / (rows + z**2), (middle + half) / (rows + z**2)


def before_scaling(proba: Array, temperature: float) -> Array:
    """Probabilities as they were before temperature scaling made p^(1/T) of them."""
    power = proba.astype(np.float64) ** temperature
    return power / power.sum(axis=1, keepdims=True)


def confused_pairs(target: Array, predicted: Array) -> list[tuple[int, int, int]]:
    """Each pair of a true class and another predicted one with its number of rows, the most frequent first."""
    wrong = target != predicted
    pairs = Counter(zip(target[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    return sorted(((t, p, n) for (t, p), n in pairs.items()), key=lambda pair: (-pair[2], *pair))


def threshold_curve(proba: Array, target: Array, oos_class: int) -> ThresholdCurve:
    """The results of all thresholds: a row keeps its likeliest in-scope class if that reaches one, or is rejected."""
    in_scope = proba.copy()
    in_scope[:, oos_class] = -1
    score, oos, right = in_scope.max(axis=1), target == oos_class, in_scope.argmax(axis=1) == target
    threshold = np.sort(score)
    rejected_oos, rejected_right = (np.searchsorted(np.sort(score[rows]), threshold) for rows in (oos, right))
    accuracy = (right.sum() - rejected_right) / max((~oos).sum(), 1)
    return ThresholdCurve(threshold, accuracy, rejected_oos / max(oos.sum(), 1))


def risk_coverage(confidence: Array, right: Array) -> tuple[Array, Array]:
    """Share of rows, the least confident ones, that go to a person, (N,), and the accuracy over the others, (N,)."""
    order = (-confidence).argsort(kind="stable")
    answered = np.arange(1, len(right) + 1)
    return 1 - answered[::-1] / len(right), (right[order].cumsum() / answered)[::-1]
