"""Better options in a minute: `python -m cli.tune --config configs/NAME.yaml --minutes 1`.

Optuna searches penalty, rate, n-grams, feature dropout and class weights, as far as the config has them, by
cross-validation over train and validation; the test rows stay untouched. The first trial is the config as it is, so the
result is no worse by the search's own measure; one behind the median of those before it ends there. The same command
goes on: a folder named after config and rows has study.db (Optuna's), trials.csv and NAME_tuned.yaml, for `fit`.
"""

import hashlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from callbacks.files import atomic_write_csv, atomic_write_text
from cli.config import config_text
from cli.folds import Sample
from cli.main import run_as_command
from cli.refit import Refit
from cli.search import DIRECTIONS, OPTIONS, Clock, Search
from cli.search_space import as_arguments
from cli.study import load_optuna

PRINTED = 10  # trials


def require_possible(options: Any) -> None:
    """Refuse a search without an end, or without a beginning, with a ValueError."""
    if not 0 < options.minutes < float("inf"):
        raise ValueError(f"minutes must be above 0, got {options.minutes:g}")
    if options.trials < 1 and options.trials != -1:
        raise ValueError(f"trials must be at least 1, or -1 for as many as there is time for; got {options.trials}")
    if options.metric not in DIRECTIONS:
        raise ValueError(f"metric must be one of {', '.join(DIRECTIONS)}; got {options.metric}")


def text_of(refit: Refit) -> str:
    """The configuration, as a file that `fit` takes."""
    config = refit.config.clone()
    for name in ("config", *OPTIONS):
        config.pop(name)
    seed = config.pop("seed_everything")
    return f"seed_everything: {seed}\n{config_text(refit.parser, config, skip_default=True)}"


def write_trials(path: Path, search: Search) -> None:
    """All trials, in their order."""
    header = ("trial", "state", search.metric, "folds", "seconds", *search.space, "error")
    lines = []
    for trial in search.study.trials:
        value = trial.value if trial.state.name == "COMPLETE" else None
        seconds = None if trial.duration is None else f"{trial.duration.total_seconds():.1f}"
        values = [trial.params.get(name) for name in search.space]
        folds, error = len(trial.intermediate_values), trial.user_attrs.get("error")
        lines.append((trial.number, trial.state.name.lower(), value, folds, seconds, *values, error))
    atomic_write_csv(path, header, lines)


def print_trials(search: Search) -> None:
    """The best trials, and that of the config as it is."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    for name in ("trial", search.metric, *search.space):
        table.add_column(Text(name.rpartition(".")[2].replace("_", "\n")))
    for rank, trial in enumerate(search.complete):
        is_own = trial.params == search.own
        if rank < PRINTED or is_own:
            name = "config" if is_own else str(trial.number)
            table.add_row(name, f"{trial.value:.4f}", *(Text(short(trial.params[option])) for option in search.space))
    Console().print(table)


def short(value: float | str) -> str:
    """A value in few characters.

    >>> short('{"analyzer": "char_wb", "ngram_range": [2, 4], "min_df": 2}')
    '[2, 4]'
    """
    if isinstance(value, str):
        return str(json.loads(value)["ngram_range"]) if value.startswith("{") else value
    return f"{value:.3g}"


def write_config(search: Search, arguments: list[str], folder: Path) -> None:
    """The best trial as a file that says where it comes from and how to use it, and the same on the screen."""
    best, number, files = search.complete[0], len(search.finished()), search.refit.config.config
    own = next((trial for trial in search.complete if trial.params == search.own), best)
    name = Path(str(files[0])).stem if files else "run"
    file = folder / f"{name}_tuned.yaml"
    gain = f"instead of {own.value:.4f}" if best.params != search.own else "as before: nothing better was found"
    outcome = f"{search.metric} {best.value:.4f} {gain}"
    lines = (
        f"# {name}, tuned: {outcome}, mean of {len(search.folds)} folds; trials: {number}.",
        f"#   python train.py fit --config {file}",
        f"# Made by: python -m cli.tune {' '.join(shlex.join(arguments).split())}",
    )
    tuned = Refit([*arguments, *as_arguments(best.params, search.space)], **OPTIONS)
    atomic_write_text(file, "\n".join((*lines, text_of(tuned))))
    print(f"trials: {number}, all in {folder / 'trials.csv'}; the same command goes on")
    print(f"{outcome}\nuse it: python train.py fit --config {file}")


def main(arguments: list[str]) -> None:
    """Search, print the best trials, write all of them and a config; Ctrl-C ends the search, and not the rest."""
    refit = Refit(arguments, **OPTIONS)
    options = refit.config
    require_possible(options)
    load_optuna()  # or say that it is missing, before the data is read
    sample, clock = Sample(refit), Clock(60 * options.minutes)
    folds = sample.divide(options.folds, options.seed_everything)
    experiment = f"{text_of(refit)} {options.folds} {options.metric} {sample.names} {sample.described}"
    folder = refit.directory / f"tuning_{hashlib.sha256(experiment.encode()).hexdigest()[:8]}"
    search = Search(refit, arguments, sample, folds, folder / "study.db")
    interrupted = search.run(clock)
    write_trials(folder / "trials.csv", search)
    if not search.complete:
        raise ValueError("no trial was completed" + ("" if interrupted else ": give more time with --minutes"))
    print_trials(search)
    write_config(search, arguments, folder)
    if interrupted:
        sys.exit(130)  # as shells say of Ctrl-C


if __name__ == "__main__":
    run_as_command(main, sys.argv[1:])
