"""A configuration fitted several times in one process, each time on other rows; nothing of these fits is kept."""

import inspect
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import ActionConfigFile, Namespace
from lightning.pytorch.cli import LightningArgumentParser
from numpy.typing import NDArray
from torch import Tensor

from cli.config import CALLBACKS, expand_paths, require_classes, require_values
from cli.links import link_data_to_model
from cli.processes import spare_threads
from cli.run_directory import make_directory
from cli.run_paths import base_directory, config_file

Rows = Sequence[Any] | Tensor  # texts, or raw features (N, F); and labels, or class numbers (N,)
Splits = dict[str, tuple[Rows, Rows]]
NEVER = 10**9
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
ALONE = {"devices": 1, "num_nodes": 1, "log_every_n_steps": NEVER}
# The rows that will judge a model take no part in its fit: no temperature and no threshold is chosen on them.
UNSEEN = {"num_sanity_val_steps": 0, "check_val_every_n_epoch": NEVER, "val_check_interval": 1.0}
WHOLE = {"limit_val_batches": 1.0, "limit_test_batches": 1.0, "limit_predict_batches": 1.0}
SETTINGS: dict[str, Any] = {**QUIET, **ALONE, **UNSEEN, **WHOLE}  # of the Trainer, in place of the configured ones


class Refit:
    """Builds data and model from a configuration, as often as asked.

    Args:
        arguments: of the command line: --config, and whatever else `train.py fit` takes.
        options: further options and their defaults, by name.

    Raises:
        ValueError: data that is not split by a method `load_splits`, as those of this project are.
        OSError: results cannot be written where the runs of the configuration go.
    """

    def __init__(self, arguments: list[str], **options: Any) -> None:
        self.parser = LightningArgumentParser(exit_on_error=False)
        self.parser.add_argument("--config", action=ActionConfigFile)
        self.parser.add_argument("--seed_everything", type=int, default=42)
        for name, default in options.items():
            self.parser.add_argument(f"--{name}", type=type(default), default=default)
        self.parser.add_lightning_class_args(L.Trainer, "trainer")
        for section, callback in CALLBACKS.items():
            self.parser.add_lightning_class_args(callback, section)
        self.parser.add_lightning_class_args(L.LightningModule, "model", subclass_mode=True)
        self.parser.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True)
        link_data_to_model(self.parser, lambda: self.config.model)
        self.config: Namespace = self.parser.parse_args(arguments)
        expand_paths(self.config)
        require_classes(self.config)
        require_values(self.config)
        make_directory(self.directory)  # before an hour of fits, and not after it
        self._splits: Splits | None = None

    @property
    def directory(self) -> Path:
        """Where the runs of the configuration go."""
        return base_directory(config_file(self.config), self.config.trainer.default_root_dir)

    def fit(
        self, splits: Splits, seed: int | None = None, callbacks: Sequence[L.Callback] = ()
    ) -> tuple[L.Trainer, Any, Any]:
        """Trainer, model and data after a fit on these rows; `seed` None takes the configured one.

        The model is the last state of the fit: which epoch is the best is not asked. The configured callbacks and
        loggers are left out.
        """
        L.seed_everything(self.config.seed_everything if seed is None else seed, verbose=False)
        model, data = self.build(splits)
        spare_threads(model)
        settings = {**self.config.trainer.as_dict(), **SETTINGS, "callbacks": [*callbacks]}
        with interruptible():
            trainer = L.Trainer(**settings)
            trainer.fit(model, datamodule=data)
        return trainer, model, data

    def build(self, splits: Splits | None = None) -> tuple[Any, Any]:
        """A new model and its data: these rows, or the configured ones."""
        self._splits = splits
        config = self.config.clone()
        config.trainer = config.checkpoint = config.figures = None
        own = [(self._instantiate_data, L.LightningDataModule, True)]
        built = self.parser.instantiate(Namespace(model=config.model, data=config.data), instantiators=own)
        return built.model, built.data

    def _instantiate_data(self, data_class: type[Any], *args: Any, **options: Any) -> Any:
        data = data_class(*args, **options)
        if inspect.getattr_static(data, "load_splits", None) is None:
            raise ValueError(f"expected data with a method load_splits, {data_class.__name__} has none")
        if (splits := self._splits) is not None:
            data.load_splits = lambda: splits
            data.setup = lambda stage: None  # which says what is odd about the data: `fit` does that, once
        return data


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt here too; Lightning would exit, and ignore any further one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stopped:
        raise KeyboardInterrupt from stopped
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def predict(trainer: L.Trainer, model: Any, data: Any, split: str) -> tuple[Tensor, Tensor]:
    """Probabilities (N, K) and targets (N,) of "val" or "test", in the order of the rows."""
    loader = data.val_dataloader() if split == "val" else data.test_dataloader()
    with interruptible():
        proba = torch.cat(trainer.predict(model, dataloaders=loader))  # type: ignore[arg-type]
    if not proba.isfinite().all():
        raise ValueError("the fit diverged, its probabilities are no numbers: lower the rate, or scale the data")
    return proba, data.dataset(split).target


def take(rows: Rows, indices: Sequence[int] | NDArray[Any]) -> Rows:
    """Some of the rows."""
    return rows[torch.as_tensor(indices)] if isinstance(rows, Tensor) else [rows[index] for index in indices]
