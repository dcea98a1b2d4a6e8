"""LightningCLI with linked data and model, one directory per run, and options that override the checkpoint's."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from callbacks.files import atomic_write_text
from callbacks.run.checkpoint_io import AtomicCheckpointIO
from callbacks.run.hyperparameters import continued, logger_runs
from callbacks.run.lightning_callbacks import refuse_own_names, refuse_stateless
from callbacks.run.loggers import logged_steps
from callbacks.run.outputs import evaluated_part
from callbacks.run.overhead import NoProfiler
from callbacks.run.requeue import UNFINISHED, slurm_job, torchrun_job
from callbacks.run.screen import PrintedMetrics, print_end_of_fit
from callbacks.run.stopping import GracefulStop
from callbacks.terminal import relative
from cli.checkpoint import class_names, read_checkpoint, require_same_classes, restore_state
from cli.config import CALLBACKS, command_without_checkpoint, config_first, config_text, expand_paths, require_options
from cli.links import fill_open_options, instantiate_data, link_data_to_model
from cli.processes import require_commands, spare_threads
from cli.refit import refits
from cli.run_directory import (
    RunDirectory,
    base_directory,
    choose_run,
    continued_run,
    locked,
    named_checkpoint,
    unfinished_run,
)
from cli.trainer_defaults import as_list, describe_best, refuse_impossible, require_testable, trainer_settings

REFIT = """fit again on all rows, once all is chosen on the validation rows (true) or by cross-validation (folds); auto
where it pays"""
TEST = "test the best state at the end, as the command test does; with --refit that of the second fit"


class TemplateCLI(LightningCLI):
    """LightningCLI of this project; `on_exit`, closed by the caller, removes the directory of a run without a save."""

    def __init__(self, on_exit: ExitStack) -> None:
        # A function, which is not copied with all that a callback such as StochasticWeightAveraging copies.
        self.enter: Callable[[Any], Any] = lambda context: on_exit.enter_context(context)
        self.checkpoint: dict[str, Any] | None = None
        self.unfinished: Path | None = None  # a run to begin again
        self.graceful_stop = GracefulStop(command_without_checkpoint(sys.argv))
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,  # each model takes its optimizer as an argument, or does without
            load_from_checkpoint_support=False,  # which writes class paths to instantiate into every checkpoint
            save_config_callback=None,  # the run directory writes config.yaml
            trainer_defaults={"callbacks": [self.graceful_stop]},  # after the checkpoint's, so that it saves first
            parser_kwargs={"exit_on_error": False, **{n: {"exit_on_error": False} for n in self.subcommands()}},
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The one that is called, as building a parser takes time; `predict` without its list of all probabilities."""
        subcommands = LightningCLI.subcommands()
        subcommands["predict"] |= {"return_predictions"}
        return {name: skip for name, skip in subcommands.items() if [name] == sys.argv[1:2]} or subcommands

    def predict(self, **options: Any) -> None:
        self.trainer.predict(**options, return_predictions=False)

    def test(self, **options: Any) -> None:
        self._evaluate(self.trainer.test, **options)

    def validate(self, **options: Any) -> None:
        self._evaluate(self.trainer.validate, **options)

    def _evaluate(self, evaluate: Callable[..., Any], verbose: bool = True, **options: Any) -> None:
        """Evaluate, with a table of metrics in place of Lightning's, which shows float32 with 15 digits."""
        if verbose:
            self.trainer.callbacks.insert(0, PrintedMetrics())  # type: ignore[attr-defined]
        evaluate(**options, verbose=False)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--refit", type=bool | Literal["folds", "auto"], default=False, help=REFIT)
        parser.add_argument("--test", type=bool, default=False, help=TEST)
        for section, callback in CALLBACKS.items():
            parser.add_lightning_class_args(callback, section)
        link_data_to_model(parser, lambda: self.options.model)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args([*sys.argv[1:2], *config_first(sys.argv[2:])])

    @property
    def options(self) -> Any:
        return self.config[self.config.subcommand]

    def _parse_ckpt_path(self) -> None:
        """Read the checkpoint, but leave the configuration as the user gave it.

        LightningCLI would let the checkpoint's hyperparameters replace options given on the command line.
        """
        options, subcommand = self.options, self.config.subcommand
        expand_paths(options)
        if subcommand == "fit" and (slurm_job() or torchrun_job()):
            self._find_unfinished_run()
        if options.ckpt_path is None and subcommand != "fit":
            raise ValueError(f"{subcommand} needs a trained model: add --ckpt_path best, last or a file")
        if options.ckpt_path in ("best", "last"):
            options.ckpt_path = str(named_checkpoint(options.ckpt_path, options))
        if options.ckpt_path is not None:
            self.checkpoint = read_checkpoint(options.ckpt_path, resumes=subcommand == "fit")
            require_same_classes(self.checkpoint, options)

    def _find_unfinished_run(self) -> None:
        """Go on with the run that this command began before its job was started again, if it has."""
        trained = self.options.clone()
        trained.pop("figures", None)  # which change nothing that is trained
        self.graceful_stop.options = self._parser("fit").dump(trained, skip_unset=False)
        run = unfinished_run(base_directory(self.options), self.graceful_stop.options)
        if run is not None and (last := run / "checkpoints" / "last.ckpt").is_file():
            self.options.ckpt_path = str(last)
        else:
            self.unfinished = run

    def instantiate_classes(self) -> None:
        """Like LightningCLI's, with the data before the rest: what the options leave open follows from its rows."""
        require_options(self.options, ["data"])
        data = instantiate_data(self.options, self._instantiate_data)
        fill_open_options(self.options, data)
        require_options(self.options, ["model"])
        config = self.config.clone()
        config[str(config.subcommand)].data = data
        runs = logger_runs(continued_run(str(self.subcommand), self.options))
        own = [(lambda kind, **options: kind(**continued(kind, options, runs)), Logger, True)]
        self.config_init = self.parser.instantiate(config, instantiators=own)
        self.datamodule, self.model = self._get(self.config_init, "data"), self._get(self.config_init, "model")
        self.trainer = self.instantiate_trainer()

    def _instantiate_data(self, data_class: type[L.LightningDataModule], *args: Any, **options: Any) -> Any:
        """Here a datamodule takes its state from the checkpoint, before the model asks it for sizes."""
        data, subcommand = data_class(*args, **options), str(self.config.subcommand)
        return restore_state(data, self.checkpoint, subcommand, self.options.ckpt_path)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Only now, with data and model in order, claim the run directory, and log and save into it."""
        subcommand, options, rank = str(self.subcommand), self.options, rank_zero_only.rank  # type: ignore[attr-defined]
        configured = self._get(self.config_init, "trainer")
        refuse_impossible(subcommand, self.model, options.trainer)
        spare_threads(self.model)
        self.writes = rank == 0 and not options.trainer.fast_dev_run
        self.run = self._enter_run()
        # The Trainer gets the very content that was checked, and drops it once it has restored from it.
        checkpoint, self.checkpoint = self.checkpoint, None
        loaded = {} if checkpoint is None else {options.ckpt_path: checkpoint}
        checkpoint_io = AtomicCheckpointIO(loaded, self._save_config(), class_names(self.model, self.datamodule))
        kwargs["plugins"] = [*as_list(configured.plugins), checkpoint_io]
        kwargs["profiler"] = configured.profiler or NoProfiler()
        step = None if checkpoint is None or self.run.is_new else logged_steps(checkpoint)
        kwargs |= trainer_settings(subcommand, configured, self.model, self.datamodule, self.run.path, step)
        trainer = super().instantiate_trainer(**kwargs)
        require_commands(trainer, rank)
        if subcommand == "fit":
            refuse_own_names(trainer)
            refuse_stateless(trainer, resumes=checkpoint is not None)
        options.refit = refits(options, trainer, self.datamodule)
        require_testable(options, self.model, self.datamodule)
        return trainer

    def _enter_run(self) -> RunDirectory:
        """The directory of this command; one of a fit is locked, and torchrun's is marked until the end."""
        if self.unfinished is not None and self.writes:
            run = RunDirectory(self.unfinished, is_new=True)
        else:
            run = choose_run(str(self.subcommand), self.options, self.writes)
        if self.subcommand != "fit" or not self.writes:
            return self.enter(run)
        self.enter(locked(run.path))
        if self.unfinished is not None:
            run.clear()
        self.enter(run)
        if run.is_new and self.options.ckpt_path:
            print(
                f"note: a new run begins from {relative(self.options.ckpt_path)}, in {relative(run.path)}",
                file=sys.stderr,
            )
        if job := torchrun_job():
            atomic_write_text(run.path / UNFINISHED, f"{job}\n{self.graceful_stop.options}")
        if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)):
            if not job:
                print("note: without --rdzv-id NAME, a restart by torchrun begins a new run", file=sys.stderr)
            if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # torch keeps it over restarts, issue 135712
                variable = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 (docs/devices.md)"
                print(f"note: restarts of several processes may hang without {variable}", file=sys.stderr)
        return run

    def _save_config(self) -> Callable[[], None] | None:
        """Write config.yaml of a new run; of a resumed one, return what writes it once a checkpoint has been saved.

        Until then config.yaml describes what last.ckpt was trained with, also if the new options prove impossible.
        """
        if self.subcommand != "fit" or not self.writes:
            return None
        write = partial(self.run.write_config, config_text(self._parser("fit"), self.options))
        if not self.run.is_new:
            return write
        write()
        return None

    def after_fit(self) -> None:
        if self.writes and self.trainer.is_global_zero:
            run = relative(self.run.path)
            next_command = None if self.options.refit else self._next_command(run)
            print_end_of_fit(self.trainer, describe_best(self.trainer), run, next_command)
            (self.run.path / UNFINISHED).unlink(missing_ok=True)

    def _next_command(self, run: Path) -> str:
        """`test` or else `predict`, by the run's own config unless the fit had a single file and no option."""
        can_test = is_overridden("test_step", self.model) and is_overridden("test_dataloader", self.datamodule)
        words = sys.argv[2:]
        config = words[1] if words[:1] == ["--config"] and len(words) == 2 else run / "config.yaml"
        state = "best" if (run / "checkpoints/best.ckpt").is_file() else "last"
        return f"python train.py {'test' if can_test else 'predict'} --config {config} --ckpt_path {state}"

    def after_test(self) -> None:
        data, writes = self.datamodule, self.writes and self.trainer.is_global_zero
        if self.subcommand == "test" and writes and getattr(data, "trains_on_validation", False):
            rows = f" {sum(data.class_counts):,}" if hasattr(data, "class_counts") else ""
            print(f"trained on{rows} training and validation rows; the test rows took no part")
        part = evaluated_part(self.trainer)
        if part is not None and writes:
            print(f"of a part of the rows: {part}")

    after_validate = after_predict = after_test
