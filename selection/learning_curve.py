"""Learning curve: `python -m selection.learning_curve --config configs/NAME.yaml` tells if more rows would help.

Writes learning_curve.csv and .png: test accuracy of fits on 10, 20, 40, 70 and 100 % of the training rows, drawn three
times. Shares of fewer rows than labels are left out.
"""

import sys
from typing import Any

import numpy as np
from lightning.pytorch.callbacks import LambdaCallback
from rich.progress import Progress
from sklearn.model_selection import LearningCurveDisplay, learning_curve

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
    draws = [(train[drawn(sample.target[train], draw)], test) for draw in range(DRAWS)]
    with Progress() as bar:
        task = bar.add_task("fits", total=len(sizes) * DRAWS)
        sample.callbacks = [LambdaCallback(on_fit_end=lambda *_: bar.advance(task))]
        rows = np.arange(len(sample.target))
        sizes, train_scores, test_scores = learning_curve(
            sample, rows, sample.target, train_sizes=sizes, cv=draws, error_score="raise"
        )
    lines = [(sizes[n], draw, score) for (n, draw), score in np.ndenumerate(test_scores)]
    atomic_write_csv(path, ("rows", "draw", "test_accuracy"), lines)
    means = zip(test_scores.mean(axis=1), sizes, strict=True)
    print("test accuracy: " + ", ".join(f"{mean:.3f} with {size} rows" for mean, size in means))
    print(f"table: {path}")
    curve = LearningCurveDisplay(
        train_sizes=sizes,
        train_scores=train_scores,
        test_scores=test_scores,
        score_name=f"accuracy on {len(test):,} test rows",
    )
    gains = 100 * np.diff(test_scores.mean(axis=1))

    def draw(figure: Any) -> None:
        ax = figure.add_subplot()
        curve.plot(ax, score_type="test", std_display_style="errorbar", errorbar_kw={"marker": "o", "capsize": 4})
        ax.get_legend().remove()
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.set_xlabel(f"training rows, each number drawn {DRAWS} times: mean ± standard deviation")
        if len(gains):
            ax.set_title(f"The last {sizes[-1] - sizes[-2]:,} rows bring {gains[-1]:+.1f} points of test accuracy")

    write_picture(path.with_suffix(".png"), draw)


if __name__ == "__main__":
    run_as_command(main, sys.argv[1:])
