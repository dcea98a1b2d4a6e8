"""Labelled tables that scikit-learn ships, or that are made with a seed, with categories and holes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets


class LabelledTable(NamedTuple):
    """N rows: `numbers` (N, F), NaN where missing; `categories` (N, C) of str; `labels` (N,) of str."""

    numbers: np.ndarray
    categories: np.ndarray
    labels: np.ndarray


def shipped(name: str, seed: int) -> LabelledTable:
    """One of scikit-learn's own."""
    return _of_numbers(*getattr(datasets, f"load_{name}")(return_X_y=True))


def clusters(seed: int, **options: Any) -> LabelledTable:
    """What make_classification makes."""
    return _of_numbers(*datasets.make_classification(random_state=seed, **options))


def people(seed: int, rows: int, classes: int, told: float) -> LabelledTable:
    """Rows of five numbers and three columns of 3, 7 and 40 categories, some rare; a fifth of one number is missing.

    The labels are drawn from a softmax of linear scores, whose standard deviation goes with `told`.
    """
    random = np.random.default_rng(seed)
    numbers, sizes = random.standard_normal((rows, 5)), (3, 7, 40)
    drawn = []
    for size in sizes:
        share = 1 / np.arange(1, size + 1) ** 1.3
        drawn.append(random.choice(size, rows, p=share / share.sum()))
    scores = numbers @ random.standard_normal((5, classes))
    scores += sum(0.7 * random.standard_normal((size, classes))[each] for size, each in zip(sizes, drawn, strict=True))
    chosen = (told * scores + random.gumbel(size=scores.shape)).argmax(axis=1)
    numbers[random.random(rows) < 0.2, 0] = np.nan
    categories = np.array([[f"kind {k}" for k in each] for each in drawn]).T
    return LabelledTable(numbers, categories, np.array([f"class {k}" for k in chosen]))


def _of_numbers(x: Any, target: Any) -> LabelledTable:
    return LabelledTable(np.asarray(x, float), np.empty((len(x), 0), str), np.array([f"class {k}" for k in target]))


TABLES: dict[str, Callable[[int], LabelledTable]] = {
    "iris": lambda seed: shipped("iris", seed),
    "wine": lambda seed: shipped("wine", seed),
    "breast cancer": lambda seed: shipped("breast_cancer", seed),
    "digits": lambda seed: shipped("digits", seed),
    "60 columns, most of them noise": lambda seed: clusters(seed, n_samples=300, n_features=60, n_informative=10),
    "people, two classes": lambda seed: people(seed, 900, 2, 1.0),
    "people, three classes": lambda seed: people(seed, 340, 3, 4.0),
    "46 columns": lambda seed: clusters(
        seed, n_samples=7_000, n_features=46, n_informative=12, n_classes=3, flip_y=0.1
    ),
}
