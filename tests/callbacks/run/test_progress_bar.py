"""The bar is updated at most five times a second, and at the end of an epoch."""

from types import SimpleNamespace

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar

from callbacks import ThrottledProgressBar
from callbacks.run import progress_bar


class Model(L.LightningModule):
    """Trains nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        self.log("train/loss", float(batch_idx))
        return self.weight

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def batches_forwarded(monkeypatch, seconds):
    """Of two epochs of 10 batches, those that are forwarded to Rich when a batch takes that long."""
    forwarded, ticks = [], iter(range(1_000))
    monkeypatch.setattr(progress_bar, "time", SimpleNamespace(monotonic=lambda: next(ticks) * seconds))
    monkeypatch.setattr(
        RichProgressBar, "on_train_batch_end", lambda bar, t, m, out, batch, index: forwarded.append(index)
    )
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_model_summary"), False)
    trainer = L.Trainer(accelerator="cpu", max_epochs=2, callbacks=[ThrottledProgressBar()], **off)
    trainer.fit(Model(), torch.utils.data.DataLoader(torch.zeros(10)))
    return forwarded


def test_slow_batches_are_all_forwarded(monkeypatch):
    assert batches_forwarded(monkeypatch, seconds=0.3) == [*range(10), *range(10)]


def test_quick_batches_are_forwarded_five_times_a_second_and_at_the_end_of_an_epoch(monkeypatch):
    assert batches_forwarded(monkeypatch, seconds=0.0625) == [0, 4, 8, 9, 3, 7, 9]


def test_the_bar_shows_the_loss_which_is_logged_for_no_bar():
    shown = []

    class Bar(ThrottledProgressBar):
        def get_metrics(self, trainer, pl_module):
            shown.append(super().get_metrics(trainer, pl_module))
            return shown[-1]

    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_model_summary"), False)
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, callbacks=[Bar()], **off)
    trainer.fit(Model(), torch.utils.data.DataLoader(torch.zeros(10)))
    assert shown[-1]["train/loss"] == 9
    assert type(shown[-1]["train/loss"]) is float
