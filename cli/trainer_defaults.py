"""Defaults of the Trainer: directory, callbacks and loggers that the configuration leaves open."""

from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import ModelSummary, ProgressBar
from lightning.pytorch.loggers.logger import DummyLogger, Logger
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from callbacks.run.checkpoints import RelocatableModelCheckpoint, own_checkpoint
from callbacks.run.divergence import StopOnDivergence
from callbacks.run.hyperparameters import LoggerRuns
from callbacks.run.lightning_callbacks import CheckpointFolder, EpochRestart, KeepEarlyStop, KeepUnsaved, RateMonitor
from callbacks.run.loggers import EvaluationBoard, ResumableCSVLogger, ThrottledTensorBoardLogger
from callbacks.run.outputs import MetricsWriter, OutputSaver
from callbacks.run.overhead import ThrottledProgressBar
from callbacks.run.screen import ShapesSummary
from cli.capabilities import additions_to

POSITIVE_OPTIONS = (
    *("max_epochs", "max_steps", "limit_train_batches", "accumulate_grad_batches", "gradient_clip_val"),
    *("log_every_n_steps", "val_check_interval", "check_val_every_n_epoch"),
)
EVALUATED = {"validate": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}


def refuse_impossible(subcommand: str, model: L.LightningModule, options: Any) -> None:
    """Refuse, with a ValueError, Trainer options with which a command cannot do what it is for."""
    for name in POSITIVE_OPTIONS if subcommand == "fit" else (EVALUATED[subcommand],):
        value = options.get(name)
        endless = name in ("max_epochs", "max_steps") and value == -1
        if isinstance(value, int | float) and value <= 0 and not endless:
            raise ValueError(f"trainer.{name}: expected more than 0, got {value}")
    if subcommand == "fit" and options.barebones:
        raise ValueError("trainer.barebones writes nothing, and fit is there to write a run; leave it out")
    # The model refuses this too, but on a CPU Lightning makes it bf16-mixed before the model can see it.
    if subcommand == "fit" and not model.automatic_optimization and str(options.precision) in ("16", "16-mixed"):
        raise ValueError(
            "trainer.precision 16-mixed does not reach an update written by hand: use --trainer.precision bf16-mixed"
        )


def require_testable(options: Any, model: L.LightningModule, data: L.LightningDataModule) -> None:
    """Refuse, before the fit and with a ValueError, a `--test` that could not follow it; without --test, nothing."""
    if not options.test:
        return
    if options.trainer.fast_dev_run:
        raise ValueError("--test: a dry run (fast_dev_run) saves no state to test, leave one of them out")
    for part, name in ((model, "test_step"), (data, "test_dataloader")):
        if not is_overridden(name, part):
            raise ValueError(f"--test needs a {name}, {type(part).__name__} has none: leave --test out")


def trainer_settings(
    subcommand: str, configured: Any, model: Any, data: Any, run: Path, resumed_at: int | None
) -> dict[str, Any]:
    """Directory, callbacks and loggers: those of the configuration, and defaults for what it leaves open.

    The curves of a resumed run, in TensorBoard and metrics.csv, go on after step `resumed_at`.
    """
    callbacks = [*as_list(configured.callbacks), *report_callbacks(subcommand, model, data), CheckpointFolder()]
    run = run.resolve()  # as a resume finds it, because ModelCheckpoint goes on only in a folder of the same name
    shows_bar = configured.enable_progress_bar is not False and not configured.barebones
    if shows_bar and not any(isinstance(c, ProgressBar) for c in callbacks):
        callbacks.insert(0, ThrottledProgressBar())  # first, so that it has ended before the others print
    if subcommand == "fit":
        callbacks += [*(callback() for callback in additions_to("fit")), StopOnDivergence(), LoggerRuns()]
        callbacks += [EpochRestart(), KeepUnsaved(), KeepEarlyStop()]
        if configured.enable_model_summary is None and not any(isinstance(c, ModelSummary) for c in callbacks):
            callbacks.append(ShapesSummary())
        if configured.logger is not False and not configured.fast_dev_run:
            callbacks.append(RateMonitor("step"))
    loggers = choose_loggers(subcommand, configured, str(run), resumed_at)
    return {"default_root_dir": str(run), "callbacks": callbacks, "logger": loggers}


def choose_loggers(subcommand: str, configured: Any, run: str, resumed_at: int | None) -> list[Logger] | bool:
    """The loggers of the configuration, the first of which is a module's `self.logger`, and the run's own beside them.

    `test` leaves the curves of the fit as they are. `validate` and `predict` log nothing, to a logger that takes all.
    """
    if configured.logger is False or configured.barebones:
        return False
    others = [] if configured.logger in (None, True) else as_list(configured.logger)
    if subcommand == "fit":
        board = ThrottledTensorBoardLogger(run, "", "", default_hp_metric=False, purge_step=resumed_at)
        return [*others, board, ResumableCSVLogger(run, resumed_at)]
    return [*others, EvaluationBoard(run)] if subcommand == "test" else [DummyLogger()]


def report_callbacks(subcommand: str, model: L.LightningModule, data: L.LightningDataModule) -> list[L.Callback]:
    """The report of `test` and of `predict`, where model and data offer what it needs; else a line that says why not.

    `fit` gets none, but prints the line: then there is still time to add the method.
    """
    callbacks: list[L.Callback] = [MetricsWriter()] if subcommand == "test" else []
    for command in ("test", "predict"):
        for report in additions_to(command):
            unmet = report.unmet(model, data)
            if unmet is not None and subcommand in ("fit", command):
                rank_zero_only(print)(f"`{command}` leaves out {report.__name__}: {unmet}")
            elif unmet is None and subcommand == command:
                callbacks.append(report())
    return callbacks or ([OutputSaver()] if subcommand == "predict" else [])


def as_list(value: Any) -> list[Any]:
    """An option that may be missing, one thing or a list of them, as a list."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def describe_best(trainer: L.Trainer) -> str:
    """Which state best.ckpt holds, with the metric that decided; a ValueError for a fit that saved nothing."""
    if trainer.global_step == 0:
        raise ValueError("nothing was trained: the fit ended before its first step; see trainer.max_time and callbacks")
    if not any(Path(trainer.default_root_dir, "checkpoints").glob("*.ckpt")):
        raise ValueError(
            f"nothing was trained: the checkpoint has all {trainer.current_epoch} epochs; raise --trainer.max_epochs"
        )
    return cast(RelocatableModelCheckpoint, own_checkpoint(trainer)).describe_best()
