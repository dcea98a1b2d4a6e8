"""Hyperparameters and metrics of a run for TensorBoard's HParams page."""

from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.run.hyperparameters import options_of, parameter_counts

METRICS = (
    *("val/loss", "val/accuracy", "val/macro_f1"),
    *("val_at_threshold/in_scope_accuracy", "val_at_threshold/oos_recall"),
)


class HyperparameterSummary(L.Callback):
    """At the end of `fit`, the run's options and the last of its validation metrics, on TensorBoard's HParams page."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        from torch.utils.tensorboard.summary import hparams  # slow to import, so not at the top

        metrics = {name: trainer.callback_metrics[name] for name in METRICS if name in trainer.callback_metrics}
        options = options_of(Path(trainer.default_root_dir)) | parameter_counts(pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and options and metrics:
                for summary in hparams(options, metrics):  # names the metrics; the page takes the ends of their curves
                    logger.experiment._get_file_writer().add_summary(summary)
