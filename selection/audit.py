"""Labels that may be wrong: `python -m selection.audit --config configs/NAME.yaml` writes suspect_labels.csv.

Confident learning (Northcutt, Jiang and Chuang, JAIR 2021, https://arxiv.org/abs/1911.00068): each row of train and
validation is judged by a model that has not seen it. Listed are rows to which it gives another label; those come first
whose own label it finds least likely beside the other.
"""

import sys

import numpy as np

from callbacks.tables import atomic_write_csv
from selection.command import run_as_command
from selection.configured import Configured
from selection.sample import Array, cross_validated

HEADER = ("split", "row", "content", "label", "suggested", "p_label", "p_suggested", "confident")


def suspects(proba: Array, target: Array) -> tuple[Array, Array, Array]:
    """Of probabilities (N, K) and given classes (N,) the rows whose most probable class is another, and that class.

    The smallest p(given) / p(most probable) comes first. The third array tells if confident learning counts the label
    as wrong: the probability of the other class is at least the mean that rows given that class have.
    """
    own, suggested, best = proba[np.arange(len(target)), target], proba.argmax(axis=1), proba.max(axis=1)
    expected = np.array([own[target == k].mean() if (target == k).any() else 1.0 for k in range(proba.shape[1])])
    order = (own / best).argsort(kind="stable")
    order = order[suggested[order] != target[order]]
    return order, suggested[order], best[order] >= expected[suggested[order]]


def main(arguments: list[str]) -> None:
    """Write suspect_labels.csv where the runs of the configuration go."""
    configured = Configured(arguments, folds=(int, 5))
    path = configured.directory() / "suspect_labels.csv"
    sample, folds = cross_validated(configured, configured.config.folds)
    rows = np.concatenate([fold.rows for fold in folds])
    rows, proba = np.sort(rows), np.concatenate([fold.proba for fold in folds])[rows.argsort()]
    target, lines = sample.target[rows], []
    order, suggested, confident = suspects(proba, target)
    for n, k, sure in zip(order, suggested, confident, strict=True):
        row, content = rows[n], " ".join(map(str, sample.described[rows[n]].values()))
        judged = f"{proba[n, target[n]]:.4f}", f"{proba[n, k]:.4f}", "yes" if sure else "no"
        lines.append((*sample.places[row], content, sample.names[row], sample.class_names[k], *judged))
    atomic_write_csv(path, HEADER, lines)
    print(f"{len(order)} of {len(rows)} labels are doubtful, {int(confident.sum())} of them suspect: {path}")


if __name__ == "__main__":
    run_as_command(main, sys.argv[1:])
