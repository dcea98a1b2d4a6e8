"""Which labels may be wrong: `python -m cli.audit --config configs/NAME.yaml` writes suspect_labels.csv.

Confident learning (Northcutt, Jiang and Chuang, JAIR 2021, https://arxiv.org/abs/1911.00068): the rows of train and
validation are divided into folds, and each is judged by a model that has not seen it. Listed are rows to which it gives
another label; those come first whose own label it finds least likely beside the other.
"""

import sys

import numpy as np
from rich.progress import track

from callbacks.files import atomic_write_csv
from cli.folds import Array, Sample, judge
from cli.main import run_as_command
from cli.refit import Refit


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


def main(arguments: list[str]) -> None:
    """Write suspect_labels.csv where the runs of the configuration go."""
    refit = Refit(arguments, folds=5)
    sample = Sample(refit)
    names, divided = sample.class_names, sample.divide(refit.config.folds, refit.config.seed_everything)
    folds = list(track(judge(refit, sample, divided), total=len(divided), description="folds"))
    rows, proba, target = (np.concatenate(part) for part in zip(*(fold[:3] for fold in folds), strict=True))
    in_order = rows.argsort()
    rows, proba, target = rows[in_order], proba[in_order], target[in_order]
    order, suggested, confident = suspects(proba, target)
    path = refit.directory / "suspect_labels.csv"
    header = ("split", "row", "content", "label", "suggested", "p_label", "p_suggested", "confident")
    lines = []
    for n, k, sure in zip(order, suggested, confident, strict=True):
        content, own = " ".join(str(value) for value in sample.described[rows[n]].values()), target[n]
        judged = f"{proba[n, own]:.4f}", f"{proba[n, k]:.4f}", "yes" if sure else "no"
        lines.append((*sample.places[rows[n]], content, names[own], names[k], *judged))
    atomic_write_csv(path, header, lines)
    print(f"{len(order)} of {len(rows)} labels are doubtful, {int(confident.sum())} of them suspect: {path}")


if __name__ == "__main__":
    run_as_command(main, sys.argv[1:])
