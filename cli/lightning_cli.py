"""LightningCLI with linked data and model, one directory per run, and options that override the checkpoint's."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from callbacks.files import atomic_write_text
from callbacks.run.checkpoint_io import AtomicCheckpointIO
from callbacks.run.lightning_callbacks import refuse_own_names, refuse_stateless
from callbacks.run.metrics import evaluated_part
from callbacks.run.overhead import NoProfiler
from callbacks.run.requeue import UNFINISHED, slurm_job, torchrun_job
from callbacks.run.stopping import GracefulStop
from cli.checkpoint import class_names, read_checkpoint, require_same_class, restore_state
from cli.config import CALLBACKS, config_text, expand_paths, require_classes, require_values
from cli.links import link_data_to_model
from cli.processes import require_commands, spare_threads
from cli.refit import require_refittable
from cli.run_directory import locked
from cli.run_paths import base_directory, choose_run, config_file, newest_checkpoint, unfinished_run
from cli.trainer_defaults import as_list, describe_best, refuse_impossible, trainer_settings

REFIT = "fit again on all rows, once all is chosen on the validation rows (true) or by cross-validation (folds)"


class TemplateCLI(LightningCLI):
    """LightningCLI of this project; `on_exit`, closed by the caller, removes the directory of a run without a save."""

    def __init__(self, on_exit: ExitStack) -> None:
        # A function, which is not copied with all that a callback such as StochasticWeightAveraging copies.
        self.enter: Callable[[Any], Any] = lambda context: on_exit.enter_context(context)
        self.checkpoint: dict[str, Any] | None = None
        self.unfinished: Path | None = None  # a run to begin again
        self.graceful_stop = GracefulStop()
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

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Declare --refit, the sections of callbacks, and the links from data to model."""
        parser.add_argument("--refit", type=bool | Literal["folds"], default=False, help=REFIT)
        for section, callback in CALLBACKS.items():
            parser.add_lightning_class_args(callback, section)
        link_data_to_model(parser, lambda: self.options.model)

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
            trained = options.clone()
            trained.pop("figures", None)  # which change nothing that is trained
            self.graceful_stop.command = self._parser("fit").dump(trained, skip_unset=False)
            run = unfinished_run(self._base_directory(), self.graceful_stop.command)
            if run is not None and (last := run / "checkpoints" / "last.ckpt").is_file():
                options.ckpt_path = str(last)
            elif run is not None:
                self.unfinished = run
        if options.ckpt_path is None:
            if subcommand != "fit":
                raise ValueError(f"{subcommand} needs a trained model: add --ckpt_path best, last or a file")
            return
        if options.ckpt_path in ("best", "last"):
            config = None if options.trainer.default_root_dir else config_file(self.options)
            options.ckpt_path = str(newest_checkpoint(self._base_directory(), options.ckpt_path, config))
        self.checkpoint = read_checkpoint(options.ckpt_path, resumes=self.config.subcommand == "fit")
        require_same_class(self.checkpoint, "model", options.model.class_path)
        require_same_class(self.checkpoint, "data", options.data.class_path)

    def before_instantiate_classes(self) -> None:
        require_classes(self.options)
        require_values(self.options)

    def instantiate_classes(self) -> None:
        """Like LightningCLI's, which calls deprecated names of jsonargparse."""
        # No method: an optimizer keeps the list, and a copy of the model (an average) would copy this object too.
        own = [(lambda *args, **options: self._instantiate_data(*args, **options), L.LightningDataModule, True)]
        self.config_init = self.parser.instantiate(self.config, instantiators=own)
        self.datamodule, self.model = self._get(self.config_init, "data"), self._get(self.config_init, "model")
        self.trainer = self.instantiate_trainer()

    def _instantiate_data(self, data_class: type[L.LightningDataModule], *args: Any, **options: Any) -> Any:
        """Here a datamodule takes its state from the checkpoint, before the model asks it for sizes."""
        return restore_state(data_class(*args, **options), self.checkpoint, str(self.config.subcommand))

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Only now, with data and model in order, claim the run directory, and log and save into it."""
        options, configured = self.options, self._get(self.config_init, "trainer")
        refuse_impossible(str(self.subcommand), self.model, options.trainer)
        spare_threads(self.model)
        writes = (rank := rank_zero_only.rank) == 0 and not options.trainer.fast_dev_run  # type: ignore[attr-defined]
        named = bool(options.trainer.default_root_dir)
        base, saves = self._base_directory(), self.subcommand == "fit" and writes
        run = choose_run(str(self.subcommand), base, named, options.ckpt_path, writes, self.unfinished)
        if saves:
            self.enter(locked(run.path))
            if self.unfinished is not None:
                run.clear()
        self.run = self.enter(run)
        if saves and run.is_new and options.ckpt_path:
            print(f"note: a new run begins from {options.ckpt_path}, in {run.path}", file=sys.stderr)
        step = None if run.is_new or self.checkpoint is None else self.checkpoint["global_step"]
        if saves and (job := torchrun_job()):
            atomic_write_text(run.path / UNFINISHED, f"{job}\n{self.graceful_stop.command}")
        elif saves and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)):
            print("note: without --rdzv-id NAME, a restart by torchrun begins a new run", file=sys.stderr)
        after_save = run.save_config(config_text(self._parser("fit"), options)) if saves else None
        # The Trainer gets the very content that was checked, and drops it once it has restored from it.
        checkpoint, self.checkpoint = self.checkpoint, None
        loaded = {} if checkpoint is None else {options.ckpt_path: checkpoint}
        checkpoint_io = AtomicCheckpointIO(loaded, after_save, class_names(self.model, self.datamodule))
        kwargs["profiler"] = configured.profiler or NoProfiler()
        kwargs["plugins"] = [*as_list(configured.plugins), checkpoint_io]
        kwargs |= trainer_settings(str(self.subcommand), configured, self.model, self.datamodule, run.path, step)
        trainer = super().instantiate_trainer(**kwargs)
        require_commands(trainer, rank)
        if self.subcommand == "fit":
            refuse_own_names(trainer)
            refuse_stateless(trainer, resumes=checkpoint is not None)
        require_refittable(options, trainer)
        return trainer

    def after_fit(self) -> None:
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            print(describe_best(self.trainer))
            print(f"run directory: {self.run.path}")
            (self.run.path / UNFINISHED).unlink(missing_ok=True)

    def after_test(self) -> None:
        part = evaluated_part(self.trainer)
        if part is not None and self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            print(f"of a part of the rows: {part}")

    after_validate = after_predict = after_test

    def _base_directory(self) -> Path:
        return base_directory(config_file(self.options), self.options.trainer.default_root_dir)
