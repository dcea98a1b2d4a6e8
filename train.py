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
import pickle
import re
import shutil
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import chain, count, pairwise
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import ArgumentError
from jsonargparse.typing import PositiveInt
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from callbacks import (
    CalmProgressBar,
    CheckpointFiles,
    GracefulStop,
    MetricsCSV,
    PredictionWriter,
    RunCheckpoint,
    TensorBoardCurves,
    TestReport,
)
from callbacks.run_files import write_whole

# What the datamodule knows and the model must be built to fit.
DATA_FACTS = ("num_features", "num_classes", "class_names", "class_counts", "oos_class")

# What a user's files, options or checkpoints can bring about. Anything else is our fault and keeps its traceback.
USER_ERRORS = (ArgumentError, MisconfigurationException, ValueError, OSError)


class SaveConfig(SaveConfigCallback):
    """Writes the resolved configuration of a fit to config.yaml in its run directory."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write it whole or not at all, without the place and the start of the run: no part of the experiment."""
        config = self.config.clone()
        config.trainer.default_root_dir = config.ckpt_path = None
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
        self.data_restored = False  # whether the datamodule has its state from it
        self.claimed: Path | None = None
        self.found_empty = False  # whether the user had made the claimed directory
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
                for path in self.claimed.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                if not self.found_empty:
                    self.claimed.rmdir()
            raise

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Declare `checkpoint` (which epoch is best) and the links from data to model."""
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
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

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Look at the configuration files before jsonargparse does."""
        words = sys.argv[1:]
        files = (after for word, after in pairwise(words) if word in ("--config", "-c"))
        joined = (word.removeprefix("--config=") for word in words if word.startswith("--config="))
        require_sections(chain(files, joined))
        super().parse_arguments(parser, args)

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
        except pickle.UnpicklingError as error:  # torch's own text advises to load it without protection
            raise ValueError(
                f"--ckpt_path: {path} is no checkpoint that can be loaded safely: it holds more than tensors and plain "
                "values, or is damaged; nothing in it was run; use one that fit has written"
            ) from error
        except Exception as error:  # torch raises a dozen types for a file that is cut short or something else
            raise ValueError(
                f"--ckpt_path: {path} is no checkpoint that can be loaded safely: reading it ended in a "
                f"{type(error).__name__}, as if it were cut short; use one that fit has written"
            ) from error
        if not isinstance(self.checkpoint, dict) or "state_dict" not in self.checkpoint:
            raise ValueError(f"--ckpt_path: expected a Lightning checkpoint, {path} holds something else")
        trained = self.checkpoint.get("hyper_parameters", {}).get("_class_path", options.model.class_path)
        if trained != options.model.class_path:
            raise ValueError(f"{path} holds a {trained}, but the configuration asks for a {options.model.class_path}")

    def _data_fact(self, fact: str, data: L.LightningDataModule) -> Any:
        """What the model is told of the data: from the checkpoint if there is one, else from the data itself."""
        if self.checkpoint is not None and not self.data_restored:
            name = type(data).__qualname__
            if name not in self.checkpoint:
                raise ValueError(
                    f"the checkpoint holds no state of a {name}, so it was trained on other data; "
                    "use the run's config.yaml"
                )
            data.load_state_dict(self.checkpoint[name])
            self.data_restored = True
        return getattr(data, fact, None)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Only now, with data and model in order, claim the run directory, and log and save into it."""
        options = self.config[self.subcommand]
        run = self.run_directory = self._run_directory()
        kwargs["default_root_dir"] = str(run)
        kwargs["plugins"] = [*_listed(self._get(self.config_init, "trainer").plugins), CheckpointFiles()]
        self._get(self.config_init, "checkpoint").dirpath = str(run / "checkpoints")
        if self.subcommand != "fit":  # never touch a fit's own files
            self.save_config_callback = None
            self.trainer_defaults["callbacks"] = [TestReport(), PredictionWriter()]
            return super().instantiate_trainer(logger=False, **kwargs)

        # The model refuses this too, but on a CPU Lightning makes it bf16-mixed before the model can see it.
        if not self.model.automatic_optimization and str(options.trainer.precision) in ("16", "16-mixed"):
            raise ValueError(
                "trainer.precision 16-mixed does not reach an update written by hand: "
                "use --trainer.precision bf16-mixed"
            )
        if options.trainer.barebones:
            raise ValueError("trainer.barebones writes nothing, and fit is there to write a run; leave it out")
        callbacks: list[L.Callback] = [GracefulStop()]
        self.trainer_defaults["callbacks"] = callbacks
        given = _listed(self._get(self.config_init, "trainer").callbacks)
        if options.trainer.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in given):
            callbacks.append(CalmProgressBar())
        if options.save_every_n_steps:
            every = {"filename": "last", "every_n_train_steps": options.save_every_n_steps}
            callbacks.append(RunCheckpoint(run / "checkpoints", enable_version_counter=False, **every))
        if options.trainer.logger in (None, True):
            goes_on = self.checkpoint is not None and run == Path(options.ckpt_path).resolve().parent.parent
            step = self.checkpoint["global_step"] if self.checkpoint is not None and goes_on else None
            board = TensorBoardCurves(str(run), name="", version="", default_hp_metric=False, purge_step=step)
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
        options = self.config[self.config.subcommand]
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
        existed = base.is_dir()
        self.claimed = claim_run_directory(base, named=bool(options.trainer.default_root_dir))
        self.found_empty = existed and self.claimed == base
        return self.claimed


def claim_run_directory(base: Path, named: bool) -> Path:
    """Make a directory for one run that no other run has, not even one that starts at the same moment.

    Args:
        base: for a directory named by the user the run's own, unless it holds a run already; else, and for every
            other run, the parent of version_0, version_1, ...
        named: whether the user named the directory.
    """
    own = [base] if named and not (base.is_dir() and any(base.iterdir())) else []
    for path in chain(own, (base / f"version_{number}" for number in count())):
        path.mkdir(parents=True, exist_ok=True)
        try:
            (path / "checkpoints").mkdir()  # of two processes only one succeeds
        except FileExistsError:
            continue
        return path
    raise AssertionError("there is always another number")


def require_sections(files: Iterator[str]) -> None:
    """Refuse configurations in which a list or a word stands where a map of options belongs.

    jsonargparse would read some of them as if they were not there.

    Raises:
        ValueError: which file, which section, what came.
    """
    for file in files:
        if not Path(file).is_file():
            continue  # jsonargparse says so
        try:
            config = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{file}: expected YAML: {error}") from error
        if config is None:
            raise ValueError(f"{file}: expected a configuration, the file is empty")
        places = {"the whole file": config}
        if isinstance(config, dict):
            sections = {name: config[name] for name in ("trainer", "checkpoint", "model", "data") if name in config}
            places |= sections
            for name, section in sections.items():
                if isinstance(section, dict) and "init_args" in section:
                    places[f"{name}.init_args"] = section["init_args"]
        for name, value in places.items():
            if not isinstance(value, dict) and not (name in ("model", "data") and isinstance(value, str)):
                raise ValueError(
                    f'{file}: expected a map of options (name: value) as "{name}", got {type(value).__name__}: {value}'
                )


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _one_line(error: BaseException) -> str:
    """The message of an error in one line; of jsonargparse's list of all that was tried, only what a user can use."""
    text = re.sub(r"^Call to compute_fn of link .*? failed: ", "", str(error), flags=re.DOTALL)
    text = text.replace("Does not validate against any of the Union subtypes", "")
    useless = r"\s*(Subtypes: .*|Errors:|Given value type: .*|- Expected a <class 'NoneType'>|Given value: \w+\(.*|)"
    lines = [line.strip() for line in text.splitlines() if not re.fullmatch(useless, line)]
    lines = [re.sub(r"^Given value: (.*)", r"got \1", line).removeprefix("- ") for line in lines]
    text = re.sub(r"<class '([\w.]+)'>", r"\1", " ".join(dict.fromkeys(lines)))
    text = re.sub(r" Got value: Namespace\(.*", "", text)
    return re.sub(r"module '([\w.]+)' has no attribute '(\w+)'", r"\1 has no \2", text)


def main() -> None:
    """Run the command line; bad input ends in one line on standard error and exit status 1."""
    # Each of these speaks of Lightning's own workings, and there is nothing a user could do about it.
    for message in (
        r".*isinstance\(treespec, LeafSpec\).*",  # Lightning 2.6 uses an old name of torch's
        r".*does not have many workers.*",  # rows are cut from memory: workers would only copy them
        r".*Using ModelCheckpoint with manual optimization.*",  # the state after the update is what a resume needs
        r".*Checkpoint directory .* exists and is not empty.*",  # the run directory was made for this run
        r".*Experiment logs directory .* exists and is not empty.*",
        r".*not supported by the model summary.*",  # of bf16-mixed: the size it prints, nothing else
        r".*Sparse CSR tensor support is in beta.*",  # a CSR tensor carries a batch; nothing beta is done with it
        r".*Sparse invariant checks are implicitly disabled.*",  # torch, of such a tensor from a worker process
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
