"""Which labels may be wrong: `python -m cli.audit --config configs/NAME.yaml` writes suspect_labels.csv.

Confident learning (Northcutt, Jiang and Chuang, JAIR 2021, https://arxiv.org/abs/1911.00068): the rows of train and
validation are divided into folds, and each is judged by a model that has not seen it. Listed are rows to which it gives
another label; those come first whose own label it finds least likely beside the other.
"""

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from callbacks.atomic_files import atomic_write_csv
from cli.refit import Refit, Rows, Splits, predict, run_as_command, take

Array = NDArray[Any]


def suspects(proba: Array, target: Array) -> tuple[Array, Array, Array]:
    """Rows whose most probable class is another than the given one.

    Args:
        proba: out-of-sample probabilities, (N, K).
        target: given classes, (N,).

    Returns:
        Row numbers, the most suspect first: those with the smallest p(given) / p(most probable). The most probable
        class of each. And whether confident learning counts it as wrong: its probability is at least the mean
        probability that rows given this class have of it.
    """
    own, suggested = proba[np.arange(len(target)), target], proba.argmax(axis=1)
    expected = np.array([own[target == k].mean() if (target == k).any() else 1.0 for k in range(proba.shape[1])])
    best = proba.max(axis=1)
    order = (own / best).argsort(kind="stable")
    order = order[suggested[order] != target[order]]
    return order, suggested[order], best[order] >= expected[suggested[order]]


def out_of_sample(refit: Refit, folds: int) -> tuple[Array, Array, list[tuple[str, int, Any]], list[str]]:
    """Probabilities (N, K) and targets (N,) of all rows of train and validation, what each row is, and K names."""
    from sklearn.model_selection import StratifiedKFold

    splits: Splits = refit.build()[1].load_splits()
    sizes = [len(splits[split][0]) for split in ("train", "val")]
    rows, labels = (_joined(splits["train"][column], splits["val"][column]) for column in (0, 1))
    keys = [str(label) for label in (labels.tolist() if isinstance(labels, torch.Tensor) else labels)]
    proba, target, names = np.zeros((len(rows), len(set(keys)))), np.zeros(len(rows), dtype=int), []
    divided = StratifiedKFold(folds, shuffle=True, random_state=refit.config.seed_everything).split(keys, keys)
    for seen, held_out in track(list(divided), description="folds"):
        parts = {"train": seen, "val": held_out, "test": held_out}
        chosen = {name: (take(rows, part), take(labels, part)) for name, part in parts.items()}
        trainer, model, data = refit.fit(chosen)
        found, truth = predict(trainer, model, data, "val")
        proba[held_out], target[held_out], names = found.numpy(), truth.numpy(), list(data.class_names)
    places = [(split, n) for split, size in zip(("train", "val"), sizes, strict=True) for n in range(size)]
    described = [(split, n, row) for (split, n), row in zip(places, rows, strict=True)]
    return proba, target, described, names


def main(arguments: list[str]) -> None:
    """Write suspect_labels.csv where the runs of the configuration go."""
    refit = Refit(arguments, folds=5)
    if refit.config.folds < 2:
        raise ValueError(f"folds must be at least 2, got {refit.config.folds}")
    proba, target, described, names = out_of_sample(refit, refit.config.folds)
    order, suggested, confident = suspects(proba, target)
    path = refit.directory / "suspect_labels.csv"
    header = ("split", "row", "content", "label", "suggested", "p_label", "p_suggested", "confident")
    lines = []
    for n, k, sure in zip(order, suggested, confident, strict=True):
        (split, row, content), own = described[n], target[n]
        judged = f"{proba[n, own]:.4f}", f"{proba[n, k]:.4f}", "yes" if sure else "no"
        lines.append((split, row, _text(content), names[own], names[k], *judged))
    atomic_write_csv(path, header, lines)
    print(f"{len(order)} of {len(target)} labels are doubtful, {int(confident.sum())} of them suspect: {path}")


def _joined(first: Rows, second: Rows) -> Rows:
    return torch.cat([first, second]) if isinstance(first, torch.Tensor) else [*first, *second]  # type: ignore[list-item]


def _text(row: Any) -> str:
    return row if isinstance(row, str) else " ".join(f"{value:g}" for value in row.tolist())


if __name__ == "__main__":
    run_as_command(main, sys.argv[1:])
