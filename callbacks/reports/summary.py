"""Hyperparameters and metrics of a run for TensorBoard's HParams page."""

from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.loggers import TensorBoardLogger

Value = bool | int | float | str
METRICS = (
    *("val/loss", "val/accuracy", "val/macro_f1"),
    *("val_at_threshold/in_scope_accuracy", "val_at_threshold/oos_recall"),
)
TRAINER_OPTIONS = ("max_epochs", "max_steps", "precision", "accumulate_grad_batches")


def options_of(run: Path) -> dict[str, Value]:
    """The options of model, data and length in a run's config.yaml, flat; nothing where there is no such file.

    >>> flat({"class_path": "logreg.BinaryLogit", "init_args": {"l2": 0.1, "seed": None, "sizes": [1, 2]}}, "model")
    {'model': 'BinaryLogit', 'model.l2': 0.1, 'model.sizes': '[1, 2]'}
    """
    file = run / "config.yaml"
    if not file.is_file():
        return {}
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    trainer = {name: config.get("trainer", {}).get(name) for name in TRAINER_OPTIONS}
    parts = {"seed_everything": config.get("seed_everything"), "trainer": trainer}
    parts |= {name: config.get(name) for name in ("model", "data")}
    return {name: value for key, part in parts.items() for name, value in flat(part, key).items()}


def flat(value: Any, name: str) -> dict[str, Value]:
    """A part of a configuration as values by dotted name; a class by its name alone, options that are null left out."""
    if isinstance(value, dict) and "class_path" in value:
        inner = flat(value.get("init_args") or {}, name)
        return {name: str(value["class_path"]).rpartition(".")[2], **inner}
    if isinstance(value, dict):
        return {full: leaf for key, item in value.items() for full, leaf in flat(item, f"{name}.{key}").items()}
    return {} if value is None else {name: value if isinstance(value, Value) else str(value)}


class HyperparameterSummary(L.Callback):
    """At the end of `fit`, the run's options and the last of its validation metrics, on TensorBoard's HParams page."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        from torch.utils.tensorboard.summary import hparams  # slow to import, so not at the top

        metrics = {name: trainer.callback_metrics[name] for name in METRICS if name in trainer.callback_metrics}
        options = options_of(Path(trainer.default_root_dir))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and options and metrics:
                for summary in hparams(options, metrics):  # names the metrics; the page takes the ends of their curves
                    logger.experiment._get_file_writer().add_summary(summary)
