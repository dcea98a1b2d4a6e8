"""The bar is updated five times a second and at the end of an epoch; the profiler does nothing unless asked for."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import RichProgressBar

from callbacks.run import overhead
from callbacks.run.overhead import NoProfiler, ThrottledProgressBar


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


def fit(bar, epochs):
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_model_summary"), False)
    trainer = L.Trainer(accelerator="cpu", max_epochs=epochs, callbacks=[bar], **off)
    trainer.fit(Model(), torch.utils.data.DataLoader(torch.zeros(10)))


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.3, [*range(10), *range(10)]), (0.0625, [0, 4, 8, 9, 3, 7, 9])], ids=["slow", "quick"]
)
def test_batches_are_forwarded_five_times_a_second_and_at_the_end_of_an_epoch(monkeypatch, seconds, expected):
    """A batch takes so many seconds."""
    forwarded, ticks = [], iter(range(1_000))
    monkeypatch.setattr(overhead, "time", SimpleNamespace(monotonic=lambda: next(ticks) * seconds))
    monkeypatch.setattr(
        RichProgressBar, "on_train_batch_end", lambda bar, t, m, out, batch, index: forwarded.append(index)
    )
    fit(ThrottledProgressBar(), epochs=2)
    assert forwarded == expected


def test_the_bar_shows_the_loss_which_is_logged_for_no_bar(monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # there is no bar but on a terminal
    shown = []

    class Bar(ThrottledProgressBar):
        def get_metrics(self, trainer, pl_module):
            shown.append(super().get_metrics(trainer, pl_module))
            return shown[-1]

    fit(Bar(), epochs=1)
    assert shown[-1]["train/loss"] == 9
    assert type(shown[-1]["train/loss"]) is float


def test_actions_within_actions_run_and_errors_pass():
    profiler, done = NoProfiler(), []
    with profiler.profile("outer"), profiler.profile("inner"):
        done.append(1)
    with pytest.raises(KeyError), profiler.profile("failing"):
        raise KeyError
    assert done == [1]


def test_a_profiler_that_the_user_asks_for_is_used(cli, tmp_path):
    options = ("--trainer.callbacks", "null", "--trainer.max_epochs", 1, "--trainer.default_root_dir", tmp_path / "run")
    profiler = ("--trainer.profiler", "lightning.pytorch.profilers.SimpleProfiler")
    profiler += ("--trainer.profiler.dirpath", tmp_path, "--trainer.profiler.filename", "profile")
    cli("fit", "--config", "configs/xor.yaml", *options, *profiler)
    assert "run_training_epoch" in (tmp_path / "fit-profile.txt").read_text()
