"""Learning curve: `python -m selection.learning_curve --config configs/NAME.yaml` tells if more rows would help.

Writes learning_curve.csv and .png: test accuracy of fits on 10, 20, 40, 70 and 100 % of the training rows, drawn three
times. Shares of fewer rows than labels are left out.
"""

import sys
from typing import Any

import numpy as np
from rich.progress import track
from sklearn.model_selection import LearningCurveDisplay

from callbacks.tables import atomic_write_csv
from selection.command import run_as_command, write_picture
from selection.configured import Configured
from selection.sample import Array, Sample

SHARES, DRAWS = (0.1, 0.2, 0.4, 0.7, 1.0), 3


def drawn(target: Array, seed: int) -> Array:
    """All rows in random order, each beginning of which has every class in its proportion, and at least once."""
    place = np.empty(len(target))
    for k in np.unique(target):
        own = np.random.default_rng((seed, int(k))).permutation(np.flatnonzero(target == k))
        place[own] = np.arange(len(own)) / len(own)
    return place.argsort(kind="stable")


def main(arguments: list[str]) -> None:
    """Write the table and the picture where the runs of the configuration go."""
    configured = Configured(arguments)
    path, sample = configured.directory() / "learning_curve.csv", Sample(configured, "train", "test")
    is_test = np.array([split == "test" for split, _ in sample.places])
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    number, sizes = len(np.unique(sample.target[train])), [round(share * len(train)) for share in SHARES]
    if small := [f"{100 * share:g}" for share, size in zip(SHARES, sizes, strict=True) if size < number]:
        print(f"left out: {', '.join(small)} % of {len(train)} training rows, which are fewer than the {number} labels")
    sizes = sizes[len(small) :]
    orders = [train[drawn(sample.target[train], draw)] for draw in range(DRAWS)]
    fits = [(size, draw) for size in sizes for draw in range(DRAWS)]
    folds = [sample.judge(orders[draw][:size], test) for size, draw in track(fits, "fits")]
    scores = np.array([(fold.proba.argmax(axis=1) == sample.target[test]).mean() for fold in folds])
    lines = [(*fit, score) for fit, score in zip(fits, scores, strict=True)]
    atomic_write_csv(path, ("rows", "draw", "test_accuracy"), lines)
    scores = scores.reshape(len(sizes), DRAWS)
    means = scores.mean(axis=1)
    print("test accuracy: " + ", ".join(f"{m:.3f} with {size} rows" for m, size in zip(means, sizes, strict=True)))
    print(f"table: {path}")
    gains = 100 * np.diff(means)

    def draw(figure: Any) -> None:
        ax = figure.add_subplot()
        name = f"accuracy on {len(test):,} test rows"
        curve = LearningCurveDisplay(train_sizes=sizes, train_scores=scores, test_scores=scores, score_name=name)
        curve.plot(ax, score_type="test", std_display_style="errorbar", errorbar_kw={"marker": "o", "capsize": 4})
        ax.get_legend().remove()
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.set_xlabel(f"training rows, each number drawn {DRAWS} times: mean ± standard deviation")
        if len(gains):
            ax.set_title(f"The last {sizes[-1] - sizes[-2]:,} rows bring {gains[-1]:+.1f} points of test accuracy")

    write_picture(path.with_suffix(".png"), draw)


if __name__ == "__main__":
    run_as_command(main, sys.argv[1:])
