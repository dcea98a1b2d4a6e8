"""Better options in a minute: `python -m selection.tune --config configs/NAME.yaml --minutes 1`.

Optuna searches penalty, rate, n-grams, feature dropout and class weights, as far as the config has them, by
cross-validation over train and validation; the test rows stay untouched. The first trial is the config as it is, so the
result is no worse by the search's own measure; one behind the median of those before it ends there. The same command
goes on: a folder named after config and rows has study.db (Optuna's), trials.csv and NAME_tuned.yaml, for `fit`.
"""

import hashlib
import shlex
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from time import monotonic
from typing import Any, Literal

import lightning as L
from filelock import FileLock
from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt

from callbacks.files import atomic_write_csv, atomic_write_text
from cli.config import config_text
from cli.errors import is_user_error, one_line
from cli.links import fill_open_options
from cli.main import run_as_command
from datamodules.splits import stratified_folds
from selection.configured import Configured, as_text
from selection.sample import Sample

OPTIONS: dict[str, Any] = {
    "minutes": (PositiveFloat, 1.0),
    "folds": (int, 3),
    "trials": (PositiveInt | Literal[-1], -1),
    "metric": (Literal["nll", "accuracy", "macro_f1"], "nll"),
}
LARGEST_C, SMALLEST_C = 1000, 0.3  # scikit-learn's measure of the penalty: l2 is 1 / (2 · rows · C)
PENALTIES = ("model.l2", "model.optimizer.weight_decay")  # the first of them that there is
RATES, DROPOUT = ("model.lr", "model.optimizer.lr"), "data.feature_dropout"
CHARS = '{"analyzer": "char_wb", "ngram_range": [2, 4], "min_df": 2, "sublinear_tf": true}'
CATEGORIES = {  # beside the configured value
    "data.words.ngram_range": ("[1, 1]", "[1, 2]", "[1, 3]"),
    "data.chars": ("null", CHARS),
    "data.chars.ngram_range": ("[1, 2]", "[1, 3]", "[2, 4]"),
    "model.class_weight": ("none", "balanced"),
}
Space = dict[str, tuple[Any, Any]]  # by option its configured value, and the lowest and highest one or a list of texts


class Clock(L.Callback):
    """Ends a fit in the midst of which the time is over, with a TimeoutError."""

    def __init__(self, seconds: float) -> None:
        self.end = monotonic() + seconds

    def on_train_batch_end(self, *_: Any) -> None:
        if monotonic() > self.end:
            raise TimeoutError


def search_space(config: Namespace, num_rows: int) -> Space:
    """The options to search that a configuration has, for N rows to learn from; the lowest penalty stands for none.

    Raises:
        ValueError: it has none of them.
    """

    def value_of(name: str) -> Any:
        return config.get(name.replace(".", ".init_args.", 1).replace("optimizer.", "optimizer.init_args."))

    space: Space = {}
    for name in PENALTIES:
        if not space and (value := value_of(name)) is not None:
            smallest, largest = (1 / (2 * num_rows * c) for c in (LARGEST_C, SMALLEST_C))
            low = min(smallest, value / 10) if value else smallest
            space[name] = max(value, low), (low, max(largest, value))
    for name in RATES:
        if (value := value_of(name)) is not None:
            space[name] = value, (value / 10, value * 10)
    if (value := value_of(DROPOUT)) is not None:
        space[DROPOUT] = value, (0.0, max(0.8, value))
    # Chars come and go beside words; without words they stay.
    left_out = "data.chars" if value_of("data.words") is None else "data.chars.ngram_range"
    for name, others in CATEGORIES.items():
        value = value_of(name)
        if name != left_out and (value is not None or name == "data.chars"):
            text = as_text(vars(value) if isinstance(value, Namespace) else value)
            space[name] = text, list(dict.fromkeys((text, *others)))
    if not space:
        raise ValueError("expected a model or data with an option to tune (l2, lr, feature_dropout, ...), got none")
    return space


def as_arguments(chosen: dict[str, Any], space: Space) -> list[str]:
    """The words that add chosen values to a command line."""
    is_none = {name for name, value in chosen.items() if name in PENALTIES and value == space[name][1][0]}
    return [word for name, value in chosen.items() for word in (f"--{name}", "0" if name in is_none else str(value))]


def open_study(file: Path, direction: str, seed: int) -> Any:
    """The trials in a SQLite file, a new one where there is none; a kill can leave Optuna's journals unreadable.

    Raises:
        ValueError: the file is damaged.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError  # which comes with Optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file.parent.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)  # the config as it is
    options: Any = {"study_name": "tune", "load_if_exists": True, "direction": direction, "pruner": pruner}
    try:
        with FileLock(file.with_name(".lock")):  # another search may be making the same tables
            storage = optuna.storages.RDBStorage(f"sqlite:///{file.resolve()}", {"connect_args": {"timeout": 60}})
            study = optuna.create_study(storage=storage, **options)
    except SQLAlchemyError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{file}: expected the trials of a search, got {reason}; remove it to begin anew") from error
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))  # else it would draw the same ones again
    return study


class Search:
    """Trials of a configuration, each with other values of the options in its search space."""

    def __init__(self, arguments: list[str]) -> None:
        self.command, self.arguments, configured = arguments, arguments, Configured(arguments, **OPTIONS)
        if find_spec("optuna") is None:
            raise ValueError('a search needs Optuna: pip install -e ".[tune]"')
        self.options = configured.config
        self.seconds, self.metric = 60 * self.options.minutes, self.options.metric
        self.sample = Sample(configured, "train", "val", callbacks=[Clock(self.seconds)])
        if open_options := fill_open_options(self.options.clone(), self.sample.data):  # one value for all trials
            self.arguments = [*arguments, *(f"--{name}={as_text(value)}" for name, value in open_options.items())]
            self.sample.configured = configured = Configured(self.arguments, **OPTIONS)
            self.options = configured.config
        self.divided = stratified_folds(self.sample.names, self.options.folds, self.options.seed_everything)
        self.space = search_space(self.options, len(self.divided[0][0]))
        self.own = {name: value for name, (value, _) in self.space.items()}
        rows = f"{self.options.folds} {self.metric} {self.sample.names} {self.sample.described}"
        digest = hashlib.sha256(f"{as_file(configured)} {rows}".encode()).hexdigest()[:8]
        self.folder = configured.directory() / f"tuning_{digest}"
        direction = "minimize" if self.metric == "nll" else "maximize"
        self.study = open_study(self.folder / "study.db", direction, self.options.seed_everything)
        if self.own not in [trial.params for trial in self.trials("COMPLETE")]:
            self.study.enqueue_trial(self.own)

    def trials(self, *states: str) -> list[Any]:
        return [trial for trial in self.study.trials if trial.state.name in states]

    def is_enough(self) -> bool:
        return 0 < self.options.trials <= len(self.trials("COMPLETE", "PRUNED"))

    def run(self) -> None:
        """Trial after trial, until the time is over or there are as many as asked for."""
        warnings.filterwarnings("ignore", "clamping frac")  # the progress bar's, of a fit that ends after its time
        if not self.is_enough():
            stop = [lambda study, _: self.is_enough() and study.stop()]
            ends: Any = {"timeout": self.seconds, "catch": TimeoutError, "show_progress_bar": True}
            self.study.optimize(self.measure, callbacks=stop, **ends)

    def measure(self, trial: Any) -> float:
        """Mean of the metric over the folds; options that cannot be fitted count as worse than all others."""
        from optuna import TrialPruned

        values: dict[str, Any] = {}
        for name, (_, of) in self.space.items():
            if isinstance(of, list):
                values[name] = trial.suggest_categorical(name, of)
            else:
                values[name] = trial.suggest_float(name, *of, log=name != DROPOUT)
        found: list[float] = []
        try:
            self.sample.configured = Configured([*self.arguments, *as_arguments(values, self.space)], **OPTIONS)
            for seen, held_out in self.divided:
                found.append(self.sample.judge(seen, held_out).metrics[self.metric])
                trial.report(fmean(found), len(found))
                if len(found) < len(self.divided) and trial.should_prune():
                    raise TrialPruned
        except Exception as error:
            if isinstance(error, TimeoutError | TrialPruned):
                raise
            trial.set_user_attr("error", one_line(error))
            if values == self.own or not is_user_error(error):
                raise
            raise TrialPruned from error
        return fmean(found)

    def write_trials(self) -> None:
        """All trials, in their order."""
        lines = []
        for t in self.study.trials:
            value, error = t.value if t.state.name == "COMPLETE" else None, t.user_attrs.get("error")
            seconds, values = t.duration and round(t.duration.total_seconds(), 1), map(t.params.get, self.space)
            lines.append((t.number, t.state.name.lower(), value, len(t.intermediate_values), seconds, *values, error))
        header = ("trial", "state", self.metric, "folds", "seconds", *self.space, "error")
        atomic_write_csv(self.folder / "trials.csv", header, lines)

    def write_config(self) -> None:
        """The best trial, unless it is the config as it is, as one that says where it comes from and how to use it."""
        complete, number = self.trials("COMPLETE"), len(self.trials("COMPLETE", "PRUNED"))
        complete.sort(key=lambda trial: trial.value, reverse=self.metric != "nll")
        for trial in complete[:10]:
            print(f"trial {trial.number}: {self.metric} {trial.value:.4f}", *as_arguments(trial.params, self.space))
        best, own = complete[0], next((trial for trial in complete if trial.params == self.own), complete[0])
        print(f"trials: {number}, all in {self.folder / 'trials.csv'}; the same command goes on")
        if best.params == self.own:
            print(f"{self.metric} {best.value:.4f} as before: nothing better was found, and no config is written")
            return
        outcome = f"{self.metric} {best.value:.4f} instead of {own.value:.4f}"
        name = Path(str((self.options.config or ["run"])[0])).stem
        file = self.folder / f"{name}_tuned.yaml"
        use = f"python train.py fit --config {file}"
        made = f"python -m selection.tune {' '.join(shlex.join(self.command).split())}"
        head = f"# Tuned: {outcome}, mean of {len(self.divided)} folds; trials: {number}.\n#   {use}\n"
        tuned = Configured([*self.arguments, *as_arguments(best.params, self.space)], **OPTIONS)
        atomic_write_text(file, f"{head}# Made by: {made}\n{as_file(tuned)}")
        print(f"{outcome}\nuse it: {use}")


def main(arguments: list[str]) -> None:
    """Search, print the best trials, write all of them and a config; Ctrl-C ends the search, and not the rest."""
    search, interrupted = Search(arguments), False
    try:
        search.run()
    except KeyboardInterrupt:
        interrupted = True
    search.write_trials()
    if not search.trials("COMPLETE"):
        raise ValueError("no trial was completed" + ("" if interrupted else ": give more time with --minutes"))
    search.write_config()
    if interrupted:
        sys.exit(130)  # as shells say of Ctrl-C


def as_file(configured: Configured) -> str:
    """The configuration, as a file that `fit` takes."""
    config = configured.config.clone()
    for name in ("config", *OPTIONS):
        config.pop(name)
    seed, refit = config.pop("seed_everything"), as_text(config.pop("refit"))
    return f"seed_everything: {seed}\nrefit: {refit}\n{config_text(configured.parser, config, skip_default=True)}"


if __name__ == "__main__":
    run_as_command(main, sys.argv[1:])
