"""Optuna's search by cross-validation, within a time: what `tune` runs."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import lightning as L
from rich.progress import BarColumn, Progress, TimeElapsedColumn

from cli.errors import is_user_error, one_line
from cli.folds import Array, Sample, judge
from cli.refit import Refit
from cli.search_space import as_arguments, search_space
from cli.study import load_optuna, open_study

OPTIONS: dict[str, Any] = {"minutes": 1.0, "folds": 3, "trials": -1, "metric": "nll"}
DIRECTIONS = {"nll": "minimize", "accuracy": "maximize", "macro_f1": "maximize"}


class TimeUpError(Exception):
    """The time for the search is over."""


class Clock(L.Callback):
    """Ends a fit in the midst of which the time is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.start = seconds, monotonic()
        self.bar = Progress("{task.description}", BarColumn(), TimeElapsedColumn())
        self.task = self.bar.add_task("the config as it is", total=seconds)

    def is_over(self) -> bool:
        """Whether all of the time has passed."""
        return monotonic() - self.start > self.seconds

    def on_train_batch_end(self, *_: Any) -> None:
        if self.is_over():
            raise TimeUpError

    def on_train_epoch_end(self, *_: Any) -> None:
        self.bar.update(self.task, completed=monotonic() - self.start)  # at every batch it would slow down the fit


class Search:
    """Trials of a configuration, each with other values of the options that `search_space` finds in it.

    Args:
        refit: the configuration as it is, the first trial.
        arguments: of its command line, to which a trial adds its own.
        sample: the rows.
        folds: rows to learn from and to judge by, as `Sample.divide` returns them.
        file: Optuna's storage, a new one or that of a search to go on with.
    """

    def __init__(
        self, refit: Refit, arguments: list[str], sample: Sample, folds: Sequence[tuple[Array, Array]], file: Path
    ) -> None:
        self.optuna = load_optuna()
        self.refit, self.arguments, self.sample, self.folds = refit, arguments, sample, folds
        self.metric, self.limit = refit.config.metric, refit.config.trials
        self.space, self.own = search_space(refit.config, len(folds[0][0]))
        self.study = open_study(file, DIRECTIONS[self.metric], refit.config.seed_everything)
        if self.own not in [trial.params for trial in self.complete]:
            self.study.enqueue_trial(self.own)

    @property
    def complete(self) -> list[Any]:
        """Trials judged by all folds, the best first."""
        trials = [trial for trial in self.study.trials if trial.state.name == "COMPLETE"]
        return sorted(trials, key=lambda trial: trial.value, reverse=DIRECTIONS[self.metric] == "maximize")

    def run(self, clock: Clock) -> bool:
        """Trial after trial, until the time is over or there are as many as asked for; True if Ctrl-C ended it.

        Raises:
            ValueError: the configuration as it is cannot be fitted.
        """
        with clock.bar:
            while not clock.is_over() and not 0 < self.limit <= len(self.finished()):
                try:
                    self.try_one(clock)
                except KeyboardInterrupt:
                    return True
                if best := self.complete[:1]:
                    text = f"trials: {len(self.finished())}, best {self.metric} {best[0].value:.4f}"
                    clock.bar.update(clock.task, description=text)
        return False

    def finished(self) -> list[Any]:
        """Trials that are complete, or ended early because they were worse or impossible."""
        return [trial for trial in self.study.trials if trial.state.name in ("COMPLETE", "PRUNED")]

    def try_one(self, clock: Clock) -> None:
        """One trial; a fit that diverges, or options that do not go together, count as worse than all others."""
        trial, states = self.study.ask(self.space), self.optuna.trial.TrialState
        try:
            self.study.tell(trial, self.measure(trial, clock))
        except self.optuna.TrialPruned:
            self.study.tell(trial, state=states.PRUNED)
        except (TimeUpError, KeyboardInterrupt) as stop:
            self.study.tell(trial, state=states.FAIL)
            if isinstance(stop, KeyboardInterrupt):
                raise
        except Exception as error:
            trial.set_user_attr("error", one_line(error))
            self.study.tell(trial, state=states.PRUNED)
            if trial.params == self.own or not is_user_error(error):
                raise

    def measure(self, trial: Any, clock: Clock) -> float:
        """Mean of the metric over the folds; after each of them the trial may end."""
        refit = Refit([*self.arguments, *as_arguments(trial.params, self.space)], **OPTIONS)
        values: list[float] = []
        for fold in judge(refit, self.sample, self.folds, [clock]):
            values.append(fold.metrics[self.metric])
            trial.report(statistics.fmean(values), len(values))
            if len(values) < len(self.folds) and trial.should_prune():
                raise self.optuna.TrialPruned
        return statistics.fmean(values)
