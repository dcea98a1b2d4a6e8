"""Defaults of a fit on a table, by its training rows: penalty, rate, batches.

Measured on scikit-learn's iris, wine, breast cancer and digits, and on made-up tables of 340 to 100,000 rows. The
penalty takes the place of early stopping: with one chosen on rows held out, the best state is the last, when the rate
has come down to 0; a fit on all rows that stops before is up to three times as far from the labels.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.splits import stratified_split

NUMBERS = ("refit", "data.batch_size", "trainer.max_epochs", "model.l2", "model.lr")  # the options of a recipe
STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # scikit-learn's C
MOST_ROWS, MOST_CELLS = 10_000, 2**24  # to choose the penalty by
FEW_CELLS = 100_000  # rows · columns, up to which five draws of held-out rows are worth their time


def numbers_of(recipe: Mapping[str, Any]) -> dict[str, float]:
    """What a checkpoint keeps of a recipe, and what counts of one that a checkpoint holds."""
    return {name: recipe[name] for name in NUMBERS if isinstance(recipe.get(name), int | float)}


def penalty(strength: float, rows: int) -> float:
    """l2 of mean −log p + l2 · ΣW² where scikit-learn's C is `strength`.

    >>> penalty(1.0, 500)
    0.001
    """
    return 1 / (2 * strength * rows)


def best_strength(x: Tensor, target: Tensor, seed: int) -> float:
    """The C with the smallest log loss on a fifth of the rows that scikit-learn's LogisticRegression has not seen.

    Args:
        x: (N, D) training rows, as the model gets them.
        target: (N,) class numbers.
        seed: of the rows to hold out.

    Returns:
        One of STRENGTHS; 1 where there are too few rows to hold any out.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, so not at the top
    from sklearn.metrics import log_loss

    rows, names, loss = x.numpy(), target.numpy(), np.zeros(len(STRENGTHS))
    for draw in range(5 if x.numel() <= FEW_CELLS else 1):
        try:
            seen, held_out = stratified_split(names.tolist(), 0.2, seed + draw, "val")
        except ValueError:
            return 1.0
        model = LogisticRegression(warm_start=True, max_iter=200)
        for n, strength in enumerate(STRENGTHS):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # 200 steps are enough to compare
                proba = model.set_params(C=strength).fit(rows[seen], names[seen]).predict_proba(rows[held_out])
            loss[n] += log_loss(names[held_out], proba, labels=model.classes_)
    return STRENGTHS[int(loss.argmin())]


def chosen_penalty(encode: Callable[[Tensor], Tensor], x: Tensor, target: Tensor, seed: int) -> float:
    """The l2 of the best strength, for training rows (N, F), encoded (N, D), and their classes (N,)."""
    sample = _sample(encode, x, target, seed)
    return penalty(best_strength(encode(x[sample]), target[sample], seed), len(x))


def stable_rate(encode: Callable[[Tensor], Tensor], x: Tensor, target: Tensor, seed: int) -> float:
    """A rate by the mean squared length of the rows; of a few rows the penalty bounds it, which else overshoots."""
    length = float(encode(x[_sample(encode, x, target, seed)]).square().sum(dim=1).mean())
    return float(f"{min(5.0, 20 / max(length, 1e-6), 0.25 / penalty(STRENGTHS[0], len(x))):.3g}")


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
