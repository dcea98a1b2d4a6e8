"""Do I need more data? `python -m cli.learning_curve --config configs/NAME.yaml` fits on shares of the training rows.

Writes learning_curve.csv and learning_curve.png: test accuracy, ours and that of scikit-learn's LogisticRegression with
its default options on the same features, over 10, 20, 40, 70 and 100 % of the rows, mean and range of three seeds.
Shares of fewer rows than labels are left out.
"""

import sys
import warnings
from collections import defaultdict
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from callbacks.figures.canvas import paint
from callbacks.figures.plots import learning_curve
from callbacks.files import atomic_write_csv
from cli.main import run_as_command
from cli.refit import Refit, Rows, Splits, predict, take
from datamodules.batches import BatchIndices

SHARES, SEEDS = (0.1, 0.2, 0.4, 0.7, 1.0), (0, 1, 2)


def measure(refit: Refit, shares: tuple[float, ...], seeds: tuple[int, ...]) -> list[tuple[str, int, int, float]]:
    """Who (ours or scikit-learn), rows, seed and test accuracy of every fit."""
    splits, found = refit.build()[1].load_splits(), []
    for share, seed in track(list(product(large_enough(splits["train"], shares), seeds)), description="fits"):
        chosen = {**splits, "train": part(splits["train"], share, seed)}
        trainer, model, data = refit.fit(chosen, seed)
        proba, target = predict(trainer, model, data, "test")
        rows = len(chosen["train"][0])
        found.append(("ours", rows, seed, float((proba.argmax(dim=1) == target).float().mean())))
        found.append(("scikit-learn", rows, seed, scikit_learn(refit, chosen)))
    return found


def large_enough(rows: tuple[Rows, Rows], shares: tuple[float, ...]) -> list[float]:
    """The shares that can hold a row of each label; says which cannot."""
    labels = np.asarray(rows[1])
    total, number = len(labels), len(np.unique(labels))
    if small := [share for share in shares if round(share * total) < number]:
        listed = ", ".join(f"{100 * share:g}" for share in small)
        print(f"left out: {listed} % of the {total} training rows, which are fewer than the {number} labels")
    return [share for share in shares if share not in small]


def part(rows: tuple[Rows, Rows], share: float, seed: int) -> tuple[Rows, Rows]:
    """A share of the rows of each label, in (0, 1], at least one row, drawn at random."""
    x, labels = rows
    if share == 1:
        return rows
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    label_of = np.asarray(labels)[shuffled]
    of_label = [shuffled[label_of == label] for label in np.unique(label_of)]
    kept = np.concatenate([own[: max(1, round(share * len(own)))] for own in of_label])
    return take(x, kept), take(labels, kept)


def scikit_learn(refit: Refit, splits: Splits) -> float:
    """Test accuracy of scikit-learn's LogisticRegression on the same features."""
    from sklearn.linear_model import LogisticRegression

    # As "val" the training rows come without feature dropout, which is part of our training and not of the features.
    _, data = refit.build({**splits, "val": splits["train"]})
    x, target = features(data, "val")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes")  # of few rows, which are asked for here
        peer = LogisticRegression(max_iter=1000).fit(x, target)
        return float(peer.score(*features(data, "test")))


def features(data: Any, split: str) -> tuple[Any, NDArray[Any]]:
    """A split as scikit-learn takes it: x (N, D), dense or CSR, and target (N,)."""
    from scipy.sparse import csr_matrix

    dataset = data.dataset(split)
    x, target, _ = dataset[BatchIndices(torch.arange(len(dataset)), epoch=0)]
    if x.layout == torch.sparse_csr:
        parts = (x.values().numpy(), x.col_indices().numpy(), x.crow_indices().numpy())
        return csr_matrix(parts, shape=x.shape), target.numpy()
    return x.numpy(), target.numpy()


def main(arguments: list[str]) -> None:
    """Write the table and the picture where the runs of the configuration go."""
    refit = Refit(arguments)
    found = measure(refit, SHARES, SEEDS)
    path = refit.directory / "learning_curve.csv"
    atomic_write_csv(path, ("model", "rows", "seed", "test_accuracy"), found)
    curves: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for who, rows, _, accuracy in found:
        curves[who][rows].append(accuracy)
    paint(path.with_suffix(".png"), lambda figure: learning_curve(figure, curves, "Do I need more data?"))
    for who, by_rows in curves.items():
        print(f"{who}: " + ", ".join(f"{np.mean(values):.3f} with {rows}" for rows, values in by_rows.items()))
    print(f"table and picture: {path}, {path.with_suffix('.png').name}")


if __name__ == "__main__":
    run_as_command(main, sys.argv[1:])
