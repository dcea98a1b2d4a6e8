"""Cross-validation: `python -m selection.cross_validate --config configs/NAME.yaml --folds 5`.

Each stratified fold of the train and validation rows is judged by a model fitted on the others. Nothing is chosen on
the rows that judge: each model is the last state of its fit, without a temperature, and with an out-of-scope threshold
only where that is configured as a number. Writes cross_validation.csv and .png, every metric of each fold, and
out_of_fold.csv, the prediction of each row by the model that has not seen it.
"""

import sys
import warnings
from math import isnan, nan
from typing import Any

import numpy as np

from callbacks.tables import atomic_write_csv, disambiguate
from selection.command import run_as_command, write_picture
from selection.configured import Configured
from selection.sample import Fold, Sample, cross_validated

OUT_OF_FOLD = ("split", "row", "fold", "label", "predicted", "p_label", "p_predicted")  # columns besides the user's


def out_of_fold(sample: Sample, folds: list[Fold]) -> tuple[list[str], list[list[object]]]:
    """Header and lines, in the order of the rows; beside a column `row` of the user's, ours is `cv_row`."""
    described = list(dict.fromkeys(name for row in sample.described for name in row))
    split, row_number, *judged = disambiguate(OUT_OF_FOLD, described, "cv_")
    lines: dict[int, list[object]] = {}
    for number, fold in enumerate(folds, start=1):
        for n, p in zip(fold.rows, fold.proba, strict=True):
            own, label = [sample.described[n].get(name) for name in described], sample.target[n]
            prediction = (number, sample.names[n], sample.class_names[p.argmax()])
            lines[n] = [*sample.places[n], *own, *prediction, f"{p[label]:.6f}", f"{p.max():.6f}"]
    return [split, row_number, *described, *judged], [lines[n] for n in sorted(lines)]


def main(arguments: list[str]) -> None:
    """Print mean ± standard deviation of each metric, and write the files where the runs of the configuration go."""
    configured = Configured(arguments, folds=(int, 5))
    path = configured.directory() / "cross_validation.csv"
    sample, folds = cross_validated(configured, configured.config.folds)
    metrics = list(dict.fromkeys(name for fold in folds for name in fold.metrics))
    table = np.array([[fold.metrics.get(name, nan) for name in metrics] for fold in folds])  # (folds, metrics)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a metric that a single fold has
        mean, deviation = np.nanmean(table, axis=0), np.nanstd(table, axis=0, ddof=1)
    lines = [(str(n), len(fold.rows), row) for n, (fold, row) in enumerate(zip(folds, table, strict=True), start=1)]
    lines += [("mean", len(sample.target), mean), ("std", len(sample.target), deviation)]
    cells = [(n, rows, *("" if isnan(value) else round(value, 6) for value in row)) for n, rows, row in lines]
    atomic_write_csv(path, ("fold", "rows", *metrics), cells)
    atomic_write_csv(path.with_name("out_of_fold.csv"), *out_of_fold(sample, folds))

    def draw(figure: Any) -> None:
        figure.set_figheight(1.2 + 0.4 * len(metrics))
        places = range(len(metrics))
        title = f"{len(folds)} folds (dots), and mean ± standard deviation"
        ax = figure.add_subplot(title=title, ylim=(len(metrics) - 0.5, -0.5))
        for beside, row in zip(np.linspace(-0.3, 0.3, len(folds)), table, strict=True):  # no two dots on one spot
            ax.plot(row, np.array(places) + beside, "o", color="C0", alpha=0.6, markersize=5)
        ax.errorbar(mean, places, xerr=deviation, fmt="k|", capsize=5)
        ax.set_yticks(places, metrics)
        values = ax.secondary_yaxis("right")
        values.set_yticks(places, [f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, deviation, strict=True)])
        values.tick_params(length=0)
        ax.grid(axis="x", alpha=0.3)

    for name, *found in zip(metrics, mean, deviation, strict=True):
        print(f"{name:<{max(map(len, metrics))}}  {found[0]:.4f} ± {found[1]:.4f}")
    print(f"every fold and every row: {path}, out_of_fold.csv")
    write_picture(path.with_suffix(".png"), draw)


if __name__ == "__main__":
    run_as_command(main, sys.argv[1:])
