"""The bar is brought up to date when it will be seen, and at the end of an epoch."""

from types import SimpleNamespace

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar

from callbacks import CalmProgressBar, progress_bar


class Model(L.LightningModule):
    """Trains nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        return self.weight

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def batches_told(monkeypatch, seconds):
    """Of two epochs of 10 batches, which the bar hears of when a batch takes that long."""
    told, passed = [], iter(range(1_000))
    monkeypatch.setattr(progress_bar, "time", SimpleNamespace(monotonic=lambda: next(passed) * seconds))
    monkeypatch.setattr(RichProgressBar, "on_train_batch_end", lambda bar, t, m, out, batch, index: told.append(index))
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_model_summary"), False)
    trainer = L.Trainer(accelerator="cpu", max_epochs=2, callbacks=[CalmProgressBar()], **off)
    trainer.fit(Model(), torch.utils.data.DataLoader(torch.zeros(10)))
    return told


def test_of_slow_batches_it_hears_of_each(monkeypatch):
    assert batches_told(monkeypatch, seconds=0.3) == [*range(10), *range(10)]


def test_of_quick_batches_it_hears_five_times_a_second_and_of_an_epoch_s_last(monkeypatch):
    assert batches_told(monkeypatch, seconds=0.0625) == [0, 4, 8, 9, 3, 7, 9]
