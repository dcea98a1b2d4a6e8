"""Better options in a minute: `python -m selection.tune --config configs/NAME.yaml --minutes 1`.

Optuna searches penalty, rate, n-grams, feature dropout and class weights, as far as the config has them, or any options
that `--space FILE` lists, with `--grid true` all combinations. Classifiers of data with `load_splits` are judged by
cross-validation over train and validation, any other fit by its best validation; the test rows stay untouched. Without
a file the first trial is the config as it is, so the result is no worse by the search's own measure. A trial behind the
median of those before it ends there. The same command goes on: a folder named after config, rows and space has study.db
(Optuna's), trials.csv and NAME_tuned.yaml, for `fit`.
"""

import hashlib
import re
import shlex
import sys
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from math import inf, isfinite
from pathlib import Path
from pydoc import locate
from statistics import fmean
from time import monotonic
from typing import Any, Literal

import lightning as L
from filelock import FileLock
from jsonargparse.typing import PositiveFloat, PositiveInt
from lightning.pytorch.callbacks import LambdaCallback

from callbacks.files import atomic_write_text
from callbacks.protocols import offers
from callbacks.run.monitors import AUTO, validation_loss
from callbacks.tables import atomic_write_csv
from cli.config import config_text
from cli.errors import is_user_error, one_line
from cli.links import fill_open_options
from datamodules.splits import stratified_folds
from selection.command import run_as_command
from selection.configured import Configured, as_text
from selection.sample import Sample
from selection.space import as_arguments, combinations, default_space, drawn_from, read_space

OPTIONS: dict[str, Any] = {
    "space": (str | None, None),
    "grid": (bool, False),
    "minutes": (PositiveFloat | None, None),  # 1; of a grid, as many as it takes
    "folds": (int, 3),
    "trials": (PositiveInt | Literal[-1], -1),
    "metric": (str | None, None),  # nll by folds, else checkpoint.monitor
    "mode": (Literal["min", "max"] | None, None),
}
MODES = {"min": "loss|nll|ece|error|mse|mae|perplexity", "max": "acc|f1|auc|auroc|recall|precision"}  # by name


class NotLogged(ValueError):
    """No fit logs the metric that is to judge it; other options would change nothing."""


def open_study(file: Path, direction: str, seed: int, num_startup_trials: int) -> Any:
    """The trials in a SQLite file, a new one where there is none; a kill can leave Optuna's journals unreadable.

    Raises:
        ValueError: the file is damaged.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError  # which comes with Optuna

    file.parent.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=num_startup_trials)
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
        from optuna.logging import ERROR, set_verbosity

        set_verbosity(ERROR)
        self.options = options = configured.config
        self.minutes = options.minutes or (inf if options.grid else 1)
        self.end, self.unit = monotonic() + 60 * self.minutes, "folds"
        data, model = (locate(options[section].class_path) for section in ("data", "model"))
        if options.space is None or (offers(data, "load_splits") and offers(model, "predict_proba")):
            self.judge, self.metric = self.by_folds, (options.metric or "nll").removeprefix("val/")
            self.sample = Sample(configured, "train", "val", callbacks=[self.clock()])
            open_options = fill_open_options(options.clone(), self.sample.data)  # one value for all trials
            self.arguments = [*arguments, *(f"--{name}={as_text(value)}" for name, value in open_options.items())]
            self.sample.configured = configured = Configured(self.arguments, **OPTIONS)
            self.options = options = configured.config
            self.folds = stratified_folds(self.sample.names, options.folds, options.seed_everything)
            judged = f"{options.folds} {self.metric} {self.sample.names} {self.sample.described}"
        else:
            self.judge, self.unit = self.by_one_fit, "validations"
            self.metric = judged = options.metric or options.checkpoint.monitor or AUTO
        if options.space is None:
            self.own, self.space = default_space(options, len(self.folds[0][0]))
            wanted = [self.own]
        else:
            self.own = {}
            self.space, values = read_space(options.space)
            self.configured(values)  # an option that is none ends here
            judged += str(self.space)
            wanted = combinations(self.space) if options.grid else []
        self.best = {"min": min, "max": max}[mode_of(self.metric, options)]
        digest = hashlib.sha256(f"{as_file(configured)} {judged}{options.mode or ''}".encode()).hexdigest()[:8]
        self.folder = configured.directory() / f"tuning_{digest}"
        direction = "minimize" if self.best is min else "maximize"
        before_pruning = sys.maxsize if options.grid else 1 if self.unit == "folds" else 5
        self.study = open_study(self.folder / "study.db", direction, options.seed_everything, before_pruning)
        done = self.trials("COMPLETE", *(("PRUNED", "WAITING") if options.grid else ()))
        begun = [trial.system_attrs.get("fixed_params", trial.params) for trial in done]
        for values in wanted:
            if values not in begun:
                self.study.enqueue_trial(values)

    def configured(self, values: dict[str, Any]) -> Configured:
        """The configuration with these values."""
        return Configured([*self.arguments, *as_arguments(values, self.space)], **OPTIONS)

    def clock(self) -> L.Callback:
        """Ends a fit in the midst of which the time is over, with a TimeoutError."""

        def check(*_: Any) -> None:
            if monotonic() > self.end:
                raise TimeoutError

        return LambdaCallback(on_train_batch_end=check)

    def trials(self, *states: str) -> list[Any]:
        return [trial for trial in self.study.trials if trial.state.name in states]

    def is_enough(self) -> bool:
        if self.options.grid and not self.trials("WAITING"):
            return True
        return 0 < self.options.trials <= len(self.trials("COMPLETE", "PRUNED"))

    def run(self) -> None:
        """Trial after trial, until the time is over or there are as many as asked for."""
        warnings.filterwarnings("ignore", "clamping frac")  # the progress bar's, of a fit that ends after its time
        if self.is_enough():
            return
        # A number or a time, for the progress bar to know the end.
        end = {"timeout": 60 * self.minutes} if self.minutes < inf else {"n_trials": len(self.trials("WAITING"))}
        stop = [lambda study, _: self.is_enough() and study.stop()]
        self.study.optimize(self.measure, catch=TimeoutError, callbacks=stop, show_progress_bar=True, **end)

    def measure(self, trial: Any) -> float:
        """The metric with the options of a trial; options that cannot be fitted count as worse than all others."""
        from optuna import TrialPruned

        values = drawn_from(self.space, trial)
        try:
            return self.judge(self.configured(values), trial)
        except Exception as error:
            if isinstance(error, TimeoutError | TrialPruned | NotLogged):
                raise
            trial.set_user_attr("error", one_line(error))
            if values == self.own or not is_user_error(error):
                raise
            raise TrialPruned from error

    def by_folds(self, configured: Configured, trial: Any) -> float:
        """The mean over the folds."""
        from optuna import TrialPruned

        self.sample.configured, found = configured, list[float]()
        for seen, held_out in self.folds:
            if trial.should_prune():
                raise TrialPruned
            found.append(value_of(self.metric, self.sample.judge(seen, held_out).metrics))
            trial.report(fmean(found), len(found))
        return fmean(found)

    def by_one_fit(self, configured: Configured, trial: Any) -> float:
        """The best validation, as best.ckpt would be, or else what the fit has logged at its end."""
        from optuna import TrialPruned

        found = list[float]()

        def after_validation(trainer: L.Trainer, model: L.LightningModule) -> None:
            if self.metric == AUTO:
                self.metric = validation_loss(trainer.callback_metrics) or AUTO
            if self.metric in trainer.callback_metrics:
                found.append(value_of(self.metric, trainer.callback_metrics))
                trial.report(found[-1], len(found))
                if trial.should_prune():
                    raise TrialPruned

        callbacks = [self.clock(), LambdaCallback(on_validation_end=after_validation)]
        trainer, *_ = configured.fit(lambda data: data, callbacks=callbacks, validates=True)
        return self.best(found or [value_of(self.metric, trainer.callback_metrics)])

    def write_trials(self) -> None:
        """All trials, in their order."""
        lines = []
        for t in self.study.trials:
            value, error = t.value if t.state.name == "COMPLETE" else None, t.user_attrs.get("error")
            seconds, values = t.duration and round(t.duration.total_seconds(), 1), map(t.params.get, self.space)
            lines.append((t.number, t.state.name.lower(), value, len(t.intermediate_values), seconds, *values, error))
        header = ("trial", "state", self.metric, self.unit, "seconds", *self.space, "error")
        atomic_write_csv(self.folder / "trials.csv", header, lines)

    def write_config(self) -> None:
        """The best trial, unless it is the config as it is, as one that says where it comes from and how to use it."""
        complete, number = self.trials("COMPLETE"), len(self.trials("COMPLETE", "PRUNED"))
        complete.sort(key=lambda trial: trial.value, reverse=self.best is max)
        for trial in complete[:10]:
            print(f"trial {trial.number}: {self.metric} {trial.value:.4f}", *as_arguments(trial.params, self.space))
        best: Any = complete[0]
        own: Any = next((trial for trial in complete if trial.params == self.own), None)
        print(f"trials: {number}, all in {self.folder / 'trials.csv'}; the same command goes on")
        if best is own:
            print(f"{self.metric} {best.value:.4f} as before: nothing better was found, and no config is written")
            return
        outcome = f"{self.metric} {best.value:.4f}" + (f" instead of {own.value:.4f}" if own else "")
        name = Path(str((self.options.config or ["run"])[0])).stem
        file = self.folder / f"{name}_tuned.yaml"
        place = self.options.trainer.default_root_dir
        words = ["python", "train.py", "fit", "--config", str(file)]
        use = shlex.join([*words, *(["--trainer.default_root_dir", place] if place else [])])
        made = f"python -m selection.tune {' '.join(shlex.join(self.command).split())}"
        how = f"mean of {len(self.folds)} folds" if self.unit == "folds" else "best validation of a fit"
        head = f"# Tuned: {outcome}, {how}; trials: {number}.\n#   {use}\n"
        atomic_write_text(file, f"{head}# Made by: {made}\n{as_file(self.configured(best.params))}")
        print(f"{outcome}\nuse it: {use}")


def mode_of(metric: str, options: Any) -> str:
    """The mode that is given, that of the monitor, or by its name; a ValueError refuses a name that tells none."""
    by_name = [mode for mode, words in MODES.items() if re.search(words, metric)]
    by_monitor = options.checkpoint.mode if metric == options.checkpoint.monitor else None
    if not (mode := options.mode or by_monitor or next(iter(by_name), None)):
        raise ValueError(f"--metric {metric}: expected --mode min or max beside it, the name tells neither")
    return mode


def value_of(metric: str, logged: Mapping[str, Any]) -> float:
    """A logged value; a ValueError refuses one that is none, or no number."""
    if metric not in logged:
        raise NotLogged(f"--metric: expected one of {', '.join(sorted(logged)) or 'nothing'}, got {metric}")
    if not isfinite(value := float(logged[metric])):
        raise ValueError(f"{metric} is {value}")
    return value


def main(arguments: list[str]) -> None:
    """Search, print the best trials, write all of them and a config; Ctrl-C ends the search, and not the rest."""
    search, interrupted = Search(arguments), False
    try:
        search.run()
    except KeyboardInterrupt:
        interrupted = True
    search.write_trials()
    if not search.trials("COMPLETE"):
        reasons = [f": {trial.user_attrs['error']}" for trial in search.trials("PRUNED") if trial.user_attrs]
        reasons = reasons or ([] if interrupted else [": give more time with --minutes"])
        raise ValueError("no trial was completed" + "".join(reasons[-1:]))
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
