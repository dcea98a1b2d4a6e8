"""The options of a run, flat, and TensorBoard's HParams page at the end of a fit."""

import lightning as L
import torch
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.data import DataLoader, TensorDataset

from callbacks.reports.summary import HyperparameterSummary

CONFIG = {
    "seed_everything": 7,
    "trainer": {"max_epochs": 2, "precision": None, "devices": "auto"},
    "model": {"class_path": "logreg.softmax.SoftmaxRegression", "init_args": {"lr": 0.5, "clip_norm": None}},
    "data": {"class_path": "mine.Data", "init_args": {"words": {"ngram_range": [1, 2]}, "shuffle": True}},
}
OPTIONS = {
    "seed_everything": 7,
    "trainer.max_epochs": 2,
    "model": "SoftmaxRegression",
    "model.lr": 0.5,
    "data": "Data",
    "data.words.ngram_range": "[1, 2]",
    "data.shuffle": True,
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
        self.log("val/loss", 0.25)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_hparams_are_written_once_at_the_end_with_the_validation_metrics(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    board = TensorBoardLogger(str(tmp_path), name="", version="", default_hp_metric=False)
    plain = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        **{"accelerator": "cpu", "default_root_dir": tmp_path, "max_epochs": 2, "log_every_n_steps": 1, **plain},
        **{"logger": board, "callbacks": [HyperparameterSummary()]},
    )
    loader = DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)
    trainer.fit(Model(), loader, loader)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in events.Scalars("val/loss")] == [0.25, 0.25]  # the curve has no point more
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    (metric,) = HParamsPluginData.FromString(content).experiment.metric_infos
    assert metric.name.tag == "val/loss"
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()} == OPTIONS | COUNTS
