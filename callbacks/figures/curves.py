"""What the pictures of a test show, computed from its rows: numbers in, numbers out.

N rows, K classes. `target` and `predicted` are class indices (N,), `confidence` is the highest probability of each row
(N,), `right` says of each row whether its answer is the true class (N,).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Bins(NamedTuple):
    """A reliability diagram: of each bin mean confidence and accuracy (NaN where it is empty), and its rows."""

    confidence: Array
    accuracy: Array
    rows: Array


class ThresholdCurve(NamedTuple):
    """Of each threshold, ascending: the share of in-scope rows answered rightly, that of out-of-scope rows rejected."""

    threshold: Array
    in_scope_accuracy: Array
    oos_recall: Array


def reliability(confidence: Array, right: Array, num_bins: int = 10) -> Bins:
    """Rows in bins of equal width by their confidence, as in the expected calibration error."""
    number = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    count = np.bincount(number, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(number, values, num_bins) / count for values in (confidence, right)]
    return Bins(means[0], means[1], count)


def expected_calibration_error(bins: Bins) -> float:
    """|accuracy − confidence|, averaged over the rows (Naeini et al., AAAI 2015)."""
    filled = bins.rows > 0
    gaps = np.abs(bins.accuracy - bins.confidence)[filled]
    return float((bins.rows[filled] * gaps).sum() / max(bins.rows.sum(), 1))


def before_scaling(proba: Array, temperature: float) -> Array:
    """Probabilities (N, K) as they were before temperature scaling made p^(1/T) of them."""
    power = proba.astype(np.float64) ** temperature
    return power / power.sum(axis=1, keepdims=True)


def confused_pairs(target: Array, predicted: Array) -> list[tuple[int, int, int]]:
    """Each pair of a true class and a wrong answer with its number of rows, the most frequent first."""
    wrong = target != predicted
    pairs = Counter(zip(target[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    return sorted(((t, p, n) for (t, p), n in pairs.items()), key=lambda pair: (-pair[2], *pair))


def grouped(labels: Array, groups: Sequence[str]) -> tuple[Array, list[str]]:
    """Class indices (N,) as indices of their classes' groups, and the names of the groups.

    Args:
        labels: class indices.
        groups: the group of each class, K names.
    """
    names = list(dict.fromkeys(groups))
    return np.array([names.index(group) for group in groups])[labels], names


def threshold_curve(score: Array, label: Array, target: Array, oos_class: int) -> ThresholdCurve:
    """What every threshold would give: a row is answered with `label` if its score reaches it, else rejected.

    Args:
        score: the largest in-scope probability, (N,).
        label: its class, (N,).
        target: the true class, (N,).
        oos_class: index of the out-of-scope class.
    """
    order = score.argsort(kind="stable")
    score, oos, kept_right = score[order], (target == oos_class)[order], (label == target)[order]
    # A threshold of score[i] rejects the i rows before it, or fewer where some of them have the same score.
    first = np.searchsorted(score, score, side="left")
    rejected_oos = np.concatenate([[0], oos.cumsum()])[first]
    rejected_right = np.concatenate([[0], kept_right.cumsum()])[first]
    accuracy = (kept_right.sum() - rejected_right) / max((~oos).sum(), 1)
    return ThresholdCurve(score, accuracy, rejected_oos / max(oos.sum(), 1))


def risk_coverage(confidence: Array, right: Array) -> tuple[Array, Array]:
    """Share of rows, the least confident ones, that go to a person, (N,), and the accuracy over the others, (N,)."""
    order = (-confidence).argsort(kind="stable")
    answered = np.arange(1, len(right) + 1)
    return 1 - answered[::-1] / len(right), (right[order].cumsum() / answered)[::-1]


def best_f1_threshold(target: Array, score: Array) -> float:
    """The threshold on the probability of class 1 with the highest F1 on these rows."""
    from sklearn.metrics import precision_recall_curve  # slow to import, so not at the top

    precision, recall, threshold = precision_recall_curve(target, score)
    return float(threshold[(2 * precision * recall / np.maximum(precision + recall, 1e-12))[:-1].argmax()])
