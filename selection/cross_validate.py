"""Cross-validation: `python -m selection.cross_validate --config configs/NAME.yaml --folds 5`.

Each stratified fold of the train and validation rows is judged by a model fitted on the others. Nothing is chosen on
the rows that judge: each model is the last state of its fit, without a temperature, and with an out-of-scope threshold
only where that is configured as a number. Writes cross_validation.csv and .png, every metric of each fold, and
out_of_fold.csv, the prediction of each row by the model that has not seen it.
"""

import sys
from math import nan
from statistics import fmean, stdev
from typing import Any

from callbacks.tables import atomic_write_csv, disambiguate
from cli.main import run_as_command
from selection.configured import Configured
from selection.picture import write_picture
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
    found = {name: [fold.metrics[name] for fold in folds if name in fold.metrics] for name in metrics}
    mean = {name: fmean(values) for name, values in found.items()}
    deviation = {name: stdev(values) if len(values) > 1 else nan for name, values in found.items()}
    lines = [(str(n), len(fold.rows), fold.metrics) for n, fold in enumerate(folds, start=1)]
    lines += [("mean", len(sample.target), mean), ("std", len(sample.target), deviation)]
    cells = [(n, rows, *(round(of[name], 6) if name in of else "" for name in metrics)) for n, rows, of in lines]
    atomic_write_csv(path, ("fold", "rows", *metrics), cells)
    atomic_write_csv(path.with_name("out_of_fold.csv"), *out_of_fold(sample, folds))

    def draw(figure: Any) -> None:
        figure.set_figheight(1 + 0.35 * len(metrics))
        ax = figure.add_subplot(title="Each fold, and mean ± standard deviation", ylim=(len(metrics), -1))
        for n, fold in enumerate(folds, start=1):
            ax.plot([fold.metrics.get(name, nan) for name in metrics], metrics, "o", alpha=0.5, label=f"fold {n}")
        ax.errorbar([*mean.values()], metrics, xerr=[*deviation.values()], fmt="k|", capsize=5)
        figure.legend(loc="outside right upper")

    for name in metrics:
        print(f"{name:<{max(map(len, metrics))}}  {mean[name]:.4f} ± {deviation[name]:.4f}")
    print(f"every fold and every row: {path}, out_of_fold.csv")
    write_picture(path.with_suffix(".png"), draw)


if __name__ == "__main__":
    run_as_command(main, sys.argv[1:])
