"""TensorBoard's pages HParams, of options and metrics, and Custom Scalars, of training and validation in one chart."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.run.checkpoints import own_checkpoint
from callbacks.run.hyperparameters import options_of, parameter_counts

METRICS = (
    *("val/loss", "val_loss", "val/accuracy", "val/acc", "val_acc", "val/macro_f1"),
    *("val_at_threshold/in_scope_accuracy", "val_at_threshold/oos_recall"),
)
SPLIT = re.compile(r"^(train|valid|validation|val)[/_]|_(step|epoch)$")  # what a name has beside its metric's


def charts(names: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """A layout of Custom Scalars: losses first, then accuracies, then the rest, with all splits of a metric in a chart.

    >>> charts(["lr", "val/acc", "train/loss", "val/loss"])["loss"]
    {'loss': ['Multiline', ['train/loss$', 'val/loss$']]}
    """
    layout: dict[str, dict[str, list[Any]]] = {"loss": {}, "accuracy": {}, "the rest": {}}
    for name in sorted(names):
        metric = SPLIT.sub("", name)
        is_loss = any(word in metric for word in ("loss", "objective", "nll"))
        category = "loss" if is_loss else "accuracy" if "acc" in metric else "the rest"
        layout[category].setdefault(metric, ["Multiline", []])[1].append(f"{re.escape(name)}$")
    return {category: found for category, found in layout.items() if found}


class HyperparameterSummary(L.Callback):
    """In TensorBoard, the charts of what is logged; at the end of `fit` the run's options and its last metrics."""

    def __init__(self) -> None:
        self._charted: set[str] = set()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or self._charted >= trainer.callback_metrics.keys():
            return
        self._charted |= trainer.callback_metrics.keys()
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(charts(self._charted))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # slow to import, so not at the top
        from torch.utils.tensorboard.summary import hparams

        own = own_checkpoint(trainer)
        names = [own.monitor if own else None, *METRICS]
        metrics = {name: trainer.callback_metrics[name] for name in names if name in trainer.callback_metrics}
        options = options_of(Path(trainer.default_root_dir)) | parameter_counts(pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and options and metrics:
                first, *others = hparams(options, metrics)  # names metrics, of which the page shows the curves' ends
                plugin = first.value[0].metadata.plugin_data
                page = HParamsPluginData.FromString(plugin.content)
                for option in page.experiment.hparam_infos:  # the page begins with what is marked, then goes by name
                    option.differs = option.name.startswith("model")
                plugin.content = page.SerializeToString()
                for summary in (first, *others):
                    logger.experiment._get_file_writer().add_summary(summary)
