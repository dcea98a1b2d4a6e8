"""Defaults of a fit on a table, by its training rows: penalty, rate, batches.

Measured on scikit-learn's iris, wine, breast cancer and digits, and on made-up tables of 100 to 100,000 rows. The
penalty takes the place of early stopping: with one chosen by cross-validation, the best state is the last, when the
rate has come down to 0; a fit on all rows that stops before is up to three times as far from the labels.
"""

import warnings
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor

NUMBERS = ("refit", "data.batch_size", "trainer.max_epochs", "model.l2", "model.lr")  # the options of a recipe
STRENGTHS = tuple(10 ** (power / 2) for power in range(-8, 5))  # scikit-learn's C, from 0.0001 to 100
MOST_ROWS, MOST_CELLS = 10_000, 2**24  # to choose the penalty by
FOLDS, CELLS_OF_FOLDS = 10, 2_000_000  # so many rows · columns, or one fold, are worth their time


def numbers_of(recipe: Mapping[str, Any]) -> dict[str, float]:
    """What a checkpoint keeps of a recipe, and what counts of one that a checkpoint holds."""
    return {name: recipe[name] for name in NUMBERS if isinstance(recipe.get(name), int | float)}


def penalty(strength: float, rows: int) -> float:
    """l2 of mean −log p + l2 · ΣW² where scikit-learn's C is `strength`.

    >>> penalty(1.0, 500)
    0.001
    """
    return 1 / (2 * strength * rows)


def best_strength(x: Tensor, target: Tensor, seed: int, lowest: float = 0.0) -> float:
    """scikit-learn's C that tells out-of-fold rows best; of many rows, those of some folds.

    Where several are about as good, it is their mean: that of log C under p(C) ~ likelihood of the out-of-fold labels.

    Args:
        x: (N, D) training rows, as the model gets them.
        target: (N,) class numbers.
        seed: of the folds.
        lowest: that C may be.

    Returns:
        Between the ends of STRENGTHS; 1 where there are too few rows to hold any out.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, so not at the top
    from sklearn.model_selection import StratifiedKFold

    rows, names = x.numpy(), target.numpy()
    if len(rows) < rows.shape[1]:  # as many columns as rows: their products, all that a penalised fit sees, stay
        rows = np.linalg.qr(rows.T).R.T
    strengths = [strength for strength in STRENGTHS if strength >= lowest]
    loss = np.zeros(len(strengths))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 200 steps are enough to compare, and a rare class is in some folds only
        try:
            folds = StratifiedKFold(min(FOLDS, int(np.bincount(names).max())), shuffle=True, random_state=seed)
            for seen, held_out in islice(folds.split(rows, names), max(1, CELLS_OF_FOLDS // rows.size)):
                model = LogisticRegression(warm_start=True, max_iter=200)
                known = held_out[np.isin(names[held_out], names[seen])]
                for n, strength in enumerate(strengths):
                    proba = model.set_params(C=strength).fit(rows[seen], names[seen]).predict_proba(rows[known])
                    of_label = proba[np.arange(len(known)), np.searchsorted(model.classes_, names[known])]
                    loss[n] -= np.log(of_label.clip(1e-15)).sum()
        except ValueError:  # one row of each class, or one class in a fold
            return 1.0
    return float(np.exp(np.average(np.log(strengths), weights=np.exp(loss.min() - loss))))


def chosen_penalty(encode: Callable[[Tensor], Tensor], x: Tensor, target: Tensor, seed: int) -> float:
    """The l2 of the best strength, for training rows (N, F), encoded (N, D), and their classes (N,)."""
    sample = _sample(encode, x, target, seed)
    lowest = 2 * stable_rate(encode, x, target, seed) / len(x)  # where a step takes half of W away
    return penalty(best_strength(encode(x[sample]), target[sample], seed, lowest), len(x))


def stable_rate(encode: Callable[[Tensor], Tensor], x: Tensor, target: Tensor, seed: int) -> float:
    """A rate by the mean squared length of the rows; that of a few rows is lower, for the sake of their penalty."""
    length = float(encode(x[_sample(encode, x, target, seed)]).square().sum(dim=1).mean())
    return float(f"{min(5.0, 20 / max(length, 1e-6), len(x) / 20):.3g}")


def _sample(encode: Callable[[Tensor], Tensor], x: Tensor, target: Tensor, seed: int) -> list[int]:
    """Positions of so many rows, of every class some, as are enough to choose by, in memory that has an end."""
    number = max(10, min(MOST_ROWS, MOST_CELLS // max(encode(x[:1]).shape[1], 1)))
    if len(x) <= number:
        return list(range(len(x)))
    random = np.random.default_rng(seed).permutation(len(x))[:number]
    few = [np.flatnonzero(target.numpy() == k)[:2] for k in target.unique().tolist()]  # one to see, one to judge by
    return np.unique(np.concatenate([random, *few])).tolist()


def size_of_batches(rows: int) -> int:
    """So many rows that an epoch has at most 40 steps.

    >>> size_of_batches(100), size_of_batches(4_500), size_of_batches(100_000)
    (16, 113, 2500)
    """
    return max(16, -(-rows // 40))


def number_of_epochs(rows: int) -> int:
    """More of them for a few rows, of which an epoch has few steps.

    >>> number_of_epochs(100), number_of_epochs(500), number_of_epochs(4_500)
    (100, 51, 40)
    """
    return max(40, min(100, 25_600 // rows))
