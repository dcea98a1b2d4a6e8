"""Several runs side by side: `python -m cli.compare runs/*/version_*` prints a table and writes compare.csv.

A line for each run: the options in which the runs differ, the lowest validation loss, and the metrics of its test.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

from callbacks.files import atomic_write_csv
from callbacks.reports.summary import Value, options_of

PRINTED = (  # of the metrics, those that fit on a terminal; compare.csv has all
    *("val/loss", "test/accuracy", "test/macro_f1", "test/in_scope_accuracy"),
    *("test_at_threshold/in_scope_accuracy", "test_at_threshold/oos_recall"),
)


def metrics_of(run: Path) -> dict[str, float]:
    """The lowest val/loss of metrics.csv, and what test_metrics.json holds, as far as they are there."""
    metrics: dict[str, float] = {}
    if (run / "metrics.csv").is_file():
        with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
            losses = [float(row["val/loss"]) for row in csv.DictReader(file) if row.get("val/loss")]
        metrics |= {"val/loss": min(losses)} if losses else {}
    if (run / "test_metrics.json").is_file():
        metrics |= json.loads((run / "test_metrics.json").read_text(encoding="utf-8"))
    return metrics


def compare(runs: list[Path]) -> list[dict[str, Value]]:
    """A line for each run: `run`, the options in which they differ, and every metric that one of them has.

    Raises:
        ValueError: a directory that is no run.
    """
    for run in runs:
        if not (run / "config.yaml").is_file():
            raise ValueError(f"expected directories of runs, with a config.yaml each; {run} has none")
    options, metrics = [options_of(run) for run in runs], [metrics_of(run) for run in runs]
    names = dict.fromkeys(name for found in options for name in found)
    differing = [name for name in names if len({found.get(name) for found in options}) > 1]
    measured = dict.fromkeys(name for found in metrics for name in found)
    return [
        {"run": str(run)}
        | {name: chosen.get(name, "") for name in differing}
        | {name: found.get(name, "") for name in measured}
        for run, chosen, found in zip(runs, options, metrics, strict=True)
    ]


def print_table(lines: list[dict[str, Value]]) -> None:
    """A row for each option and metric, a column for each run, since names are longer than values."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    table.add_column("run")
    for line in lines:
        table.add_column(Text("/".join(Path(str(line["run"])).parts[-2:])), overflow="fold")
    for name in lines[0]:
        is_metric = name.startswith(("val", "test"))
        if name != "run" and (name in PRINTED or not is_metric):
            cells = [line[name] for line in lines]
            table.add_row(name, *(Text(f"{cell:.4g}" if isinstance(cell, float) else str(cell)) for cell in cells))
    Console().print(table)


def main(arguments: list[str]) -> None:
    """Print the table, and write all of it as CSV."""
    parser = argparse.ArgumentParser(prog="python -m cli.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run directories, such as runs/clinc150/version_0")
    parser.add_argument("--csv", type=Path, default=Path("compare.csv"), help="file to write (compare.csv)")
    options = parser.parse_args(arguments)
    lines = compare(options.runs)
    print_table(lines)
    atomic_write_csv(options.csv, list(lines[0]), [list(line.values()) for line in lines])
    print(f"all options that differ, and all metrics, in {options.csv}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
