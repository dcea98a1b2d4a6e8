"""A configuration that is fitted any number of times in one process, and changes nothing there."""

import json
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import ActionConfigFile, Namespace
from lightning.pytorch.cli import LightningArgumentParser

from callbacks.run.overhead import NoProfiler
from cli.config import CALLBACKS, config_first, expand_paths, install_loader, require_options
from cli.links import fill_open_options, instantiate_data, link_data_to_model
from cli.processes import spare_threads
from cli.run_directory import base_directory, make_directory
from datamodules.batches import BatchedDataModule
from logreg.classifier_module import ClassifierModule

NEVER = 10**9
SETTINGS: dict[str, Any] = {  # of the Trainer, in place of the configured ones
    **{"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False},
    **{"devices": 1, "num_nodes": 1, "strategy": "auto", "log_every_n_steps": NEVER, "profiler": NoProfiler()},
    "num_sanity_val_steps": 0,
}
# The rows that will judge a model take no part in its fit: no temperature and no threshold is chosen on them.
WITHOUT_VALIDATION: dict[str, Any] = {
    **{"check_val_every_n_epoch": NEVER, "val_check_interval": 1.0},
    **{"limit_val_batches": 1.0, "limit_predict_batches": 1.0},
}
LOCK = threading.RLock()  # torch's random generator and threads, Lightning's logger, warning filters: one per process
WithRows = Callable[[Any], Any]  # from the configured datamodule to the one of a fit


class Configured:
    """Data and model of a command line, built and fitted as often as asked; `options` are further (type, default)."""

    def __init__(self, arguments: Sequence[str], **options: tuple[Any, Any]) -> None:
        install_loader()
        self.parser = LightningArgumentParser(exit_on_error=False)
        self.parser.add_argument("--config", action=ActionConfigFile)
        for name, (kind, default) in {"seed_everything": (int, 42), "refit": (Any, False), **options}.items():
            self.parser.add_argument(f"--{name}", type=kind, default=default)
        self.parser.add_lightning_class_args(L.Trainer, "trainer")
        for section, callback in CALLBACKS.items():
            self.parser.add_lightning_class_args(callback, section)
        self.parser.add_lightning_class_args(L.LightningModule, "model", subclass_mode=True)
        self.parser.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True)
        self.built: Any = None  # the options of the newest model: with what its rows decide
        link_data_to_model(self.parser, lambda: (self.built or self.config).model)
        self.config: Namespace = self.parser.parse_args(config_first(arguments))
        expand_paths(self.config)
        require_options(self.config, ["data"])

    def directory(self) -> Path:
        """Where the runs of the configuration go; made before an hour of fits, and not after it."""
        path = base_directory(self.config)
        make_directory(path)
        return path

    def build(self, with_rows: WithRows = lambda data: data, seed: int | None = None) -> tuple[Any, Any]:
        """A new model and its data; `seed`, where given, in place of the configured ones."""

        def instantiate(kind: type[Any], *args: Any, **options: Any) -> Any:
            data = kind(*args, **options)
            data.refit = False  # of a refitted run's config; it would train on the rows that are to judge
            if hasattr(data, "seed") and (seed is not None or options.get("seed") is None):
                data.seed = self.config.seed_everything if seed is None else seed
            data = with_rows(data)
            if isinstance(data, BatchedDataModule):  # the model asks it for sizes
                data.oddities = lambda stage: []  # type: ignore[method-assign]  # `fit` tells of them
                data.prepare_data()
                data.setup("fit")
            return data

        self.built = options = self.config.clone()
        data = instantiate_data(options, instantiate)
        fill_open_options(options, data)
        require_options(options, ["model"])
        return self.parser.instantiate(Namespace(model=options.model, data=data)).model, data

    def fit(
        self, with_rows: WithRows, seed: int | None = None, callbacks: Sequence[Any] = (), validates: bool = False
    ) -> tuple[L.Trainer, Any, Any]:
        """Trainer, model and data after a fit; the model is its last state. The configured callbacks are left out.

        So is the validation, and what the model logs, unless the fit `validates`.

        Raises:
            ValueError: the fit diverged.
        """
        threads = torch.get_num_threads()
        with quiet(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(self.config.seed_everything if seed is None else seed)
            model, data = self.build(with_rows, seed)
            is_mute = not validates and isinstance(model, ClassifierModule)
            if is_mute:  # nobody reads its log, which takes half of a step
                vars(model).update(dict.fromkeys(("log", "log_dict"), lambda *args, **options: None))
            try:
                spare_threads(model)
                settings = SETTINGS if validates else SETTINGS | WITHOUT_VALIDATION
                trainer = L.Trainer(**{**self.built.trainer.as_dict(), **settings, "callbacks": [*callbacks]})
                trainer.fit(model, datamodule=data)
            finally:
                torch.set_num_threads(threads)
        if is_mute:
            del model.log, model.log_dict
        if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
            raise ValueError("the fit diverged, its weights are no numbers: lower the rate, or scale the data")
        return trainer, model, data


@contextmanager
def quiet() -> Iterator[None]:
    """One thread at a time, without Lightning's tips and its handling of Ctrl-C, which exits and ignores a second."""
    with LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger, handler = logging.getLogger("lightning.pytorch"), signal.getsignal(signal.SIGINT)
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        except SystemExit as stopped:
            raise KeyboardInterrupt from stopped
        finally:
            logger.setLevel(level)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)


def as_text(value: Any) -> str:
    """A value as the command line takes it: text as it is, the rest as JSON, numpy's numbers as Python's."""
    return value if isinstance(value, str) else json.dumps(value, default=lambda number: number.tolist())
