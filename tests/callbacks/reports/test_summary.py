"""The options of a run, flat, and TensorBoard's HParams page at the end of a fit."""

import lightning as L
import torch
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.backend_context import _sort_and_reduce_to_hparams_limit
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.data import DataLoader, TensorDataset

from callbacks.reports.summary import HyperparameterSummary, charts
from callbacks.run.checkpoints import RelocatableModelCheckpoint
from tests.tools.runs import quiet_trainer

CONFIG = {
    "seed_everything": 7,
    "trainer": {"max_epochs": 2, "precision": None, "devices": "auto"},
    "model": {"class_path": "logreg.softmax.SoftmaxRegression", "init_args": {"lr": 0.5, "clip_norm": None}},
    "data": {"class_path": "mine.Data", "init_args": {"words": {"ngram_range": [1, 2]}, "shuffle": True}},
}
OPTIONS = {
    "model": "SoftmaxRegression",
    "model.lr": 0.5,
    "data": "Data",
    "data.words.ngram_range": "[1, 2]",
    "data.shuffle": True,
    "trainer.max_epochs": 2,
    "seed_everything": 7,
}
COUNTS = {"parameters": 2, "trainable_parameters": 2}


class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch[0]).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log_dict({"val/loss": 0.25, "val/acc": 0.5, "val/iou": 0.75})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    board = TensorBoardLogger(str(tmp_path), name="", version="", default_hp_metric=False)
    callbacks = RelocatableModelCheckpoint("val/iou", "max"), HyperparameterSummary()
    trainer = quiet_trainer(tmp_path, *callbacks, max_epochs=2, logger=board)
    loader = DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)
    trainer.fit(Model(), loader, loader)
    return EventAccumulator(str(tmp_path)).Reload()


def test_hparams_are_written_once_at_the_end_with_the_monitored_metric_first(tmp_path):
    events = fit(tmp_path)
    assert [event.value for event in events.Scalars("val/loss")] == [0.25, 0.25]  # the curve has no point more
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    experiment = HParamsPluginData.FromString(content).experiment
    assert [metric.name.tag for metric in experiment.metric_infos] == ["val/iou", "val/loss", "val/acc"]
    assert [option.name for option in experiment.hparam_infos] == [*OPTIONS, *COUNTS]
    _sort_and_reduce_to_hparams_limit(experiment)  # as the page does
    assert [option.name for option in experiment.hparam_infos][:3] == ["model", "model.lr", "data"]
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()} == OPTIONS | COUNTS


def test_custom_scalars_show_training_and_validation_in_one_chart_and_losses_first(tmp_path):
    [event] = fit(tmp_path).Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    shown = {category.title: {c.title: [*c.multiline.tag] for c in category.chart} for category in layout.category}
    assert [*shown] == ["loss", "accuracy", "the rest"]
    assert shown["loss"] == {"loss": ["train/loss$", "val/loss$"]}
    assert shown["accuracy"] == {"acc": ["val/acc$"]}
    assert shown["the rest"] == {"iou": ["val/iou$"]}


def test_names_of_metrics_as_others_write_them_share_a_chart():
    found = charts(["train_loss_step", "train_loss_epoch", "val_loss", "valid/f1", "train/f1", "val_calibrated/nll"])
    assert found["loss"] == {
        "calibrated/nll": ["Multiline", ["val_calibrated/nll$"]],
        "loss": ["Multiline", ["train_loss_epoch$", "train_loss_step$", "val_loss$"]],
    }
    assert found["the rest"]["f1"] == ["Multiline", ["train/f1$", "valid/f1$"]]
