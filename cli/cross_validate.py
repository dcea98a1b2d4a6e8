"""How good is it, and how sure is that? `python -m cli.cross_validate --config configs/NAME.yaml --folds 5`.

The rows of train and validation are divided into stratified folds, and each fold is judged by a model fitted on the
others; the test rows stay untouched. Writes cross_validation.csv, every metric of each fold with mean and standard
deviation, and out_of_fold.csv, what a model that has not seen it makes of each row.

Nothing is chosen on the rows that judge: each model is the last state of its fit, whichever epoch was the best, without
a temperature, and with an out-of-scope threshold only where that is configured as a number.
"""

import math
import statistics
import sys

from rich.progress import track

from callbacks.files import atomic_write_csv
from callbacks.reports.column_names import beside
from cli.folds import Fold, Sample, judge
from cli.main import run_as_command
from cli.refit import Refit

OUT_OF_FOLD = ("split", "row", "fold", "label", "predicted", "p_label", "p_predicted")  # columns besides the user's
Spread = dict[str, tuple[float, float]]  # metric to mean and standard deviation over the folds


def spread_of(folds: list[Fold]) -> Spread:
    """Over the folds that have the metric; the deviation with n − 1, NaN where there is only one such fold."""
    spread: Spread = {}
    for name in dict.fromkeys(name for fold in folds for name in fold.metrics):
        values = [fold.metrics[name] for fold in folds if name in fold.metrics]
        spread[name] = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan
    return spread


def print_spread(spread: Spread, folds: int) -> None:
    """Every metric in a line."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column(f"{folds} folds")
    table.add_column("mean ± standard deviation", justify="right")
    for name, (mean, deviation) in spread.items():
        table.add_row(name, f"{mean:.4f} ± {deviation:.4f}")
    Console().print(table)


def out_of_fold(sample: Sample, folds: list[Fold]) -> tuple[list[str], list[list[object]]]:
    """Header and lines of out_of_fold.csv, in the order of the rows; `cv_row` and so on where the data has a `row`."""
    described = list(dict.fromkeys(name for row in sample.described for name in row))
    split, row_number, *judged = beside(described, OUT_OF_FOLD, "cv_")
    header = [split, row_number, *described, *judged]
    lines: dict[int, list[object]] = {}
    for number, fold in enumerate(folds, start=1):
        for n, p, label in zip(fold.rows, fold.proba, fold.target, strict=True):
            answer = (number, sample.class_names[label], sample.class_names[p.argmax()])
            row = sample.described[n]
            probabilities = f"{p[label]:.6f}", f"{p.max():.6f}"
            lines[n] = [*sample.places[n], *(row.get(name) for name in described), *answer, *probabilities]
    return header, [lines[n] for n in sorted(lines)]


def main(arguments: list[str]) -> None:
    """Print the table, and write both files where the runs of the configuration go."""
    refit = Refit(arguments, folds=5)
    sample = Sample(refit)
    divided = sample.divide(refit.config.folds, refit.config.seed_everything)
    folds = list(track(judge(refit, sample, divided), total=len(divided), description="folds"))
    spread = spread_of(folds)
    print_spread(spread, len(folds))
    path = refit.directory / "cross_validation.csv"
    lines = [
        [n, len(f.rows), *(round(f.metrics[m], 6) if m in f.metrics else "" for m in spread)]
        for n, f in enumerate(folds, 1)
    ]
    for number, name in enumerate(("mean", "std")):
        lines.append([name, len(sample.x), *(round(found[number], 6) for found in spread.values())])
    atomic_write_csv(path, ("fold", "rows", *spread), lines)
    atomic_write_csv(path.with_name("out_of_fold.csv"), *out_of_fold(sample, folds))
    print(f"every fold and every row: {path}, out_of_fold.csv")


if __name__ == "__main__":
    run_as_command(main, sys.argv[1:])
