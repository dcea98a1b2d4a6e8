"""Logistic regression under the Lightning Trainer.

usage: python train.py {fit,validate,test,predict} --config FILE [--ckpt_path FILE] [--trainer.X ...] [--data.X ...]
                                                   [--model.X ...]

  fit       train, validating as it goes; prints the run directory at its end
  validate  loss and metrics on the validation rows     (needs --ckpt_path)
  test      loss, metrics and reports on the test rows  (needs --ckpt_path)
  predict   labels for new rows, in predictions.jsonl   (needs --ckpt_path)

first steps:
  python train.py fit --config configs/iris_binary.yaml
  tensorboard --logdir runs
  python train.py test --config RUN/config.yaml --ckpt_path RUN/checkpoints/best.ckpt

every option with its meaning and default:
  python train.py fit --help
  python train.py fit --model.help logreg.SoftmaxRegression
  python train.py fit --data.help datamodules.TextDataModule

A run's directory holds config.yaml, checkpoints/{best,last}.ckpt, metrics.csv, TensorBoard events and figures/. It is
runs/NAME/version_N for configs/NAME.yaml, or what --trainer.default_root_dir says. `fit --ckpt_path
RUN/checkpoints/last.ckpt` continues that run where it was; any other checkpoint starts a new run. Of a value in the
configuration and on the command line, the later one wins, and both win over a checkpoint.
"""

import sys

if __name__ == "__main__" and sys.argv[1:] in ([], ["-h"], ["--help"]):
    print(__doc__)  # before the imports below, which take seconds
    sys.exit(0 if sys.argv[1:] else 2)

import logging
import os
import re
import shutil
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import ArgumentError
from jsonargparse.typing import PositiveInt
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from callbacks import CheckpointFiles, GracefulStop, MetricsCSV, PredictionWriter, TestReport
from callbacks.run_files import write_whole

# What the datamodule knows and the model must be built to fit.
DATA_FACTS = ("num_features", "num_classes", "class_names", "class_counts", "oos_class")

# What a user's files, options or checkpoints can bring about. Anything else is our fault and keeps its traceback.
USER_ERRORS = (ArgumentError, MisconfigurationException, ValueError, OSError)


class SaveConfig(SaveConfigCallback):
    """Writes the resolved configuration of a fit to config.yaml in its run directory."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write it whole or not at all, without the place of the run, which is no part of the experiment."""
        config = self.config.clone()
        config.trainer.default_root_dir = None
        text = self.parser.dump(config, skip_none=False)
        path = Path(trainer.default_root_dir) / self.config_filename
        if path.exists() and path.read_text(encoding="utf-8") != text:  # resumed with other options: keep the old ones
            earlier = len(list(path.parent.glob("config.before_resume_*.yaml")))
            path.replace(path.with_name(f"config.before_resume_{earlier + 1}.yaml"))
        write_whole(path, text)


class LogisticRegressionCLI(LightningCLI):
    """Adds four things to LightningCLI: data facts reach the model, one directory per run, options beat the
    checkpoint, and bad input ends in one line."""

    def __init__(self) -> None:
        self.checkpoint: dict[str, Any] | None = None
        self.claimed: Path | None = None
        try:
            super().__init__(
                L.LightningModule,
                L.LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,  # each model takes its optimizer as an argument, or does without
                save_config_callback=SaveConfig,
                save_config_kwargs={"save_to_log_dir": False},
                parser_kwargs={"exit_on_error": False, **{n: {"exit_on_error": False} for n in self.subcommands()}},
            )
        except BaseException:
            # A run in which nothing was trained is not kept, so that it cannot be taken for one.
            if self.claimed is not None and not any((self.claimed / "checkpoints").glob("*")):
                shutil.rmtree(self.claimed)
            raise

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Declare `checkpoint` (which epoch is best) and the links from data to model."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/loss",
                "checkpoint.filename": "best",
                "checkpoint.save_last": True,
                "checkpoint.enable_version_counter": False,  # a resumed run goes on writing best.ckpt, not best-v1.ckpt
            }
        )
        parser.add_argument(
            "--save_every_n_steps",
            type=PositiveInt | None,
            default=None,
            help="Save checkpoints/last.ckpt not only at the end of every epoch, but also every so many updates.",
        )
        for fact in DATA_FACTS:
            parser.link_arguments(
                "data", f"model.init_args.{fact}", compute_fn=partial(self._data_fact, fact), apply_on="instantiate"
            )

    def _parse_ckpt_path(self) -> None:
        """Read the checkpoint, safely, but leave the configuration as the user gave it.

        LightningCLI would let the checkpoint's hyperparameters replace options given on the command line.
        """
        options = self.config[self.config.subcommand]
        if options.ckpt_path is None:
            if self.config.subcommand != "fit":
                raise ValueError(
                    f"{self.config.subcommand} needs a trained model: add --ckpt_path RUN/checkpoints/best.ckpt"
                )
            return
        if options.ckpt_path in ("best", "last"):
            options.ckpt_path = self._newest(f"{options.ckpt_path}.ckpt")
        path = options.ckpt_path
        if "://" not in path and not Path(path).is_file():
            raise ValueError(f"--ckpt_path: expected a checkpoint file, found none at {path}")
        try:
            self.checkpoint = CheckpointFiles().load_checkpoint(path)
        except Exception as error:  # torch raises a dozen types for a damaged file; none of them ran what is in it
            raise ValueError(
                f"--ckpt_path: {path} is no checkpoint that can be loaded safely ({_one_line(error)[:200]}); "
                "use one that fit has written"
            ) from error
        if not isinstance(self.checkpoint, dict) or "state_dict" not in self.checkpoint:
            raise ValueError(f"--ckpt_path: expected a Lightning checkpoint, {path} holds something else")
        trained = self.checkpoint.get("hyper_parameters", {}).get("_class_path", options.model.class_path)
        if trained != options.model.class_path:
            raise ValueError(f"{path} holds a {trained}, but the configuration asks for a {options.model.class_path}")

    def _data_fact(self, fact: str, data: L.LightningDataModule) -> Any:
        """What the model is told of the data: from the checkpoint if there is one, else from the data itself."""
        if self.checkpoint is not None:
            name = type(data).__qualname__
            if name not in self.checkpoint:
                raise ValueError(
                    f"the checkpoint holds no state of a {name}, so it was trained on other data; "
                    "use the run's config.yaml"
                )
            data.load_state_dict(self.checkpoint[name])
        return getattr(data, fact, None)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Only now, with data and model in order, claim the run directory, and log and save into it."""
        options = self.config[self.subcommand]
        run = self.run_directory = self._run_directory()
        kwargs["default_root_dir"] = str(run)
        kwargs["plugins"] = [*_listed(self._get(self.config_init, "trainer").plugins), CheckpointFiles()]
        self._get(self.config_init, "checkpoint").dirpath = str(run / "checkpoints")
        callbacks = self.trainer_defaults["callbacks"] = [TestReport(), PredictionWriter()]
        if self.subcommand != "fit":  # never touch a fit's own files
            self.save_config_callback = None
            return super().instantiate_trainer(logger=False, **kwargs)

        callbacks.append(GracefulStop())
        if options.save_every_n_steps:
            every = {"filename": "last", "every_n_train_steps": options.save_every_n_steps}
            callbacks.append(ModelCheckpoint(run / "checkpoints", enable_version_counter=False, **every))
        if options.trainer.logger in (None, True):
            goes_on = self.checkpoint is not None and run == Path(options.ckpt_path).resolve().parent.parent
            step = self.checkpoint["global_step"] if self.checkpoint is not None and goes_on else None
            board = TensorBoardLogger(str(run), name="", version="", default_hp_metric=False, purge_step=step)
            kwargs["logger"] = [board, MetricsCSV(str(run), resumed_at=step)]
        if options.trainer.logger is not False and not options.trainer.fast_dev_run:
            callbacks.append(LearningRateMonitor("step"))
        return super().instantiate_trainer(**kwargs)

    def after_fit(self) -> None:
        """Say where everything is."""
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:
            print(f"run directory: {self.run_directory}")

    def _base_directory(self) -> Path:
        """Where runs of this configuration go."""
        options = self.config[self.subcommand or self.config.subcommand]
        if options.trainer.default_root_dir:
            return Path(options.trainer.default_root_dir)
        config = Path(str(options.config[0])) if options.get("config") else Path("run.yaml")
        if (config.parent / "checkpoints").is_dir():  # a run's own config.yaml: its runs go beside it
            return config.parent.parent if config.parent.name.startswith("version_") else config.parent
        return Path("runs") / config.stem

    def _newest(self, name: str) -> str:
        """The newest checkpoint of that name among this configuration's runs."""
        base = self._base_directory()
        found = sorted(base.glob(f"**/checkpoints/{name}"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise ValueError(f"--ckpt_path {Path(name).stem}: no {name} below {base}; name a checkpoint file")
        return str(found[-1])

    def _run_directory(self) -> Path:
        """This run's directory: the checkpoint's own if a run goes on or is tested, else a new one."""
        options = self.config[self.subcommand]
        if options.ckpt_path and "://" not in options.ckpt_path:
            home = Path(options.ckpt_path).resolve().parent
            home = home.parent if home.name == "checkpoints" else home
            elsewhere = options.trainer.default_root_dir
            if self.subcommand != "fit":
                return Path(elsewhere) if elsewhere else home
            going_on = Path(options.ckpt_path).name == "last.ckpt" and (home / "config.yaml").is_file()
            if going_on and (not elsewhere or Path(elsewhere).resolve() == home):
                return home
        base = self._base_directory()
        if options.trainer.fast_dev_run or rank_zero_only.rank != 0:
            return base  # writes nothing
        self.claimed = claim_run_directory(base, named=bool(options.trainer.default_root_dir))
        return self.claimed


def claim_run_directory(base: Path, named: bool) -> Path:
    """Make a directory for one run that no other run has, not even one that starts at the same moment.

    Args:
        base: for a directory named by the user the run's own, unless it holds a run already; else, and for every
            other run, the parent of version_0, version_1, ...
        named: whether the user named the directory.
    """
    own = [base] if named and not (base.is_dir() and any(base.iterdir())) else []
    for path in (*own, *(base / f"version_{number}" for number in range(1_000_000))):
        path.mkdir(parents=True, exist_ok=True)
        try:
            (path / "checkpoints").mkdir()  # of two processes only one succeeds
        except FileExistsError:
            continue
        return path
    raise OSError(f"no free run directory below {base}")


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _one_line(error: BaseException) -> str:
    """The message of an error in one line, and of jsonargparse's list of all that was tried only what applies."""
    text = str(error)
    tried = re.match(
        r"(?P<where>Parser key \S+\s+)?Does not validate against any of the Union subtypes.*?Errors:\n(?P<reasons>.*?)"
        r"\n\s*Given value type: .*?Given value: (?P<value>.*)",
        text,
        re.DOTALL,
    )
    if tried:
        reasons = [r.strip() for r in re.split(r"(?m)^\s*- ", tried["reasons"]) if r.strip()]
        reasons = [r for r in reasons if r != "Expected a <class 'NoneType'>"]  # "or leave it out" is no help
        text = (tried["where"] or "") + "; ".join(dict.fromkeys(reasons))
        if not re.match(r"Namespace|NestedArg|\{", tried["value"]):  # a whole section says nothing
            text += f"; got {tried['value']}"
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text)
    return " ".join(text.split())


def main() -> None:
    """Run the command line; bad input ends in one line on standard error and exit status 1."""
    # Each of these speaks of Lightning's own workings, and there is nothing a user could do about it.
    for message in (
        r".*isinstance\(treespec, LeafSpec\).*",  # Lightning 2.6 uses an old name of torch's
        r".*does not have many workers.*",  # rows are cut from memory: workers would only copy them
        r".*Checkpoint directory .* exists and is not empty.*",  # the run directory was made for this run
        r".*Experiment logs directory .* exists and is not empty.*",
        r".*Sparse CSR tensor support is in beta.*",
    ):
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda r: "litlogger" not in r.getMessage())
    try:
        LogisticRegressionCLI()
    except USER_ERRORS as error:
        if os.environ.get("LOGREG_DEBUG"):
            raise
        sys.exit(f"error: {_one_line(error)}")


if __name__ == "__main__":
    main()
