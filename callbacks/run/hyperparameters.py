"""Options and size of a run for its loggers, and the runs that these loggers have of their own."""

import inspect
import json
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from callbacks.files import as_json, atomic_write_text
from callbacks.run.loggers import ThrottledSave

Value = bool | int | float | str
TRAINER_OPTIONS = ("max_epochs", "max_steps", "precision", "accumulate_grad_batches")
LOGGER_RUNS = "logger_runs.json"  # in the run directory: by name of a logger's class the runs that its service knows
RUN_ID_OPTIONS = ("run_id", "experiment_key", "id")  # of MLflow, of Comet, of Weights & Biases


def options_of(run: Path) -> dict[str, Value]:
    """The options of model, data and length in a run's config.yaml, flat; nothing where there is no such file.

    >>> flat({"class_path": "mine.Model", "init_args": {"l2": 0.1, "seed": None, "sizes": [1, 2]}}, "model")
    {'model': 'Model', 'model.l2': 0.1, 'model.sizes': '[1, 2]'}
    """
    file = run / "config.yaml"
    if not file.is_file():
        return {}
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    trainer = {name: config.get("trainer", {}).get(name) for name in TRAINER_OPTIONS}
    parts = {"model": config.get("model"), "data": config.get("data"), "trainer": trainer}
    parts |= {"seed_everything": config.get("seed_everything")}
    return {name: value for key, part in parts.items() for name, value in flat(part, key).items()}


def flat(value: Any, name: str) -> dict[str, Value]:
    """A part of a configuration as values by dotted name; a class by its name alone, options that are null left out."""
    if isinstance(value, dict) and "class_path" in value:
        inner = flat(value.get("init_args") or {}, name)
        return {name: str(value["class_path"]).rpartition(".")[2], **inner}
    if isinstance(value, dict):
        return {full: leaf for key, item in value.items() for full, leaf in flat(item, f"{name}.{key}").items()}
    return {} if value is None else {name: value if isinstance(value, Value) else str(value)}


def parameter_counts(model: L.LightningModule) -> dict[str, Value]:
    """How many numbers a model consists of, and how many of them it learns."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return {"parameters": sum(n for n, _ in sizes), "trainable_parameters": sum(n for n, learns in sizes if learns)}


def continued(logger: type[Logger], options: dict[str, Any], runs: dict[str, list[Any]]) -> dict[str, Any]:
    """The options of a configured logger, with the id of the run that it goes on with; each is taken from `runs`."""
    parameters = inspect.signature(logger).parameters
    names = ("version",) if issubclass(logger, TensorBoardLogger) else RUN_ID_OPTIONS
    name = next((name for name in names if name in parameters), None)
    of_class = runs.get(logger.__name__, [])
    return options | {name: of_class.pop(0)} if name and of_class and options.get(name) is None else options


def logger_runs(run: Path | None) -> dict[str, list[Any]]:
    """By name of a logger's class, the ids of the runs that a fit in this directory has begun there."""
    file = run / LOGGER_RUNS if run else None
    return json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else {}


class LoggerRuns(L.Callback):
    """At the start of a fit: gives configured loggers the run's options and the size of its model, and keeps their ids.

    By an id, which is in the run directory, a resume and `test` go on in the same run of that logger.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if not isinstance(logger, ThrottledSave)]
        if not loggers or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        run = Path(trainer.default_root_dir)
        known, ids = logger_runs(run), dict[str, list[Any]]()
        options = options_of(run) | parameter_counts(pl_module)
        for logger in loggers:
            name = type(logger).__name__
            if logger.version not in known.get(name, []):  # else it has them: some services refuse other values later
                logger.log_hyperparams(options)
            ids.setdefault(name, []).append(logger.version)
        atomic_write_text(run / LOGGER_RUNS, as_json(known | ids, indent=2) + "\n")
