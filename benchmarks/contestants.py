"""The loops that are timed: article 2's on dense rows, the same on sparse rows without Lightning, and the Trainer's."""

import logging
import sys
import tempfile
import time
import warnings
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
import yaml
from scipy.sparse import csr_matrix
from torch import Tensor

import train
from benchmarks.measure import ROOT, terminal
from datamodules import CLINC150DataModule, Ngrams
from datamodules.batches import EpochBatches, Rows, RowsDataModule
from datamodules.sparse_rows import SparseRows

CONFIG = ROOT / "configs/clinc150.yaml"
SETTINGS: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
MODEL: dict[str, Any] = SETTINGS["model"]["init_args"]  # lr, schedule, l2
FEATURE_DROPOUT: float = SETTINGS["data"]["init_args"]["feature_dropout"]

warnings.filterwarnings("ignore", category=FutureWarning)  # Lightning's, of torch and of itself
warnings.filterwarnings("ignore", ".*does not have many workers.*|.*Sparse CSR tensor support is in beta.*")
warnings.filterwarnings("ignore", ".*val_dataloader.*|.*Checkpoint directory.*|.*isinstance.treespec.*")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def clinc150() -> CLINC150DataModule:
    """CLINC150 with the vocabulary of the shipped config, vectorized already, without feature dropout."""
    data = CLINC150DataModule(words=Ngrams(**SETTINGS["data"]["init_args"]["words"]))
    data.rows("train")
    return data


class MadeUpRows(RowsDataModule):
    """Random sparse training rows: every feature equally likely, which is hardest on the caches."""

    def __init__(self, rows: int, features: int, classes: int, batch_size: int, non_zeros: int = 14) -> None:
        super().__init__(batch_size, seed=0)
        self.num_features, self.num_classes = features, classes
        random = np.random.default_rng(0)
        columns = random.integers(features, size=rows * non_zeros, dtype=np.int32)
        values = np.full(rows * non_zeros, non_zeros**-0.5, dtype=np.float32)  # rows of length 1, as of TF-IDF
        starts = np.arange(0, rows * non_zeros + 1, non_zeros)
        matrix = csr_matrix((values, columns, starts), shape=(rows, features))
        self._rows = Rows(SparseRows(matrix).cut, torch.from_numpy(random.integers(classes, size=rows)))

    def rows(self, split: str) -> Rows:
        """The only rows there are."""
        return self._rows


def dense_epoch(X: Tensor, y: Tensor, classes: int, batch_size: int, lr: float, l2: float) -> tuple[float, float]:
    """One epoch of article 2's loop, word for word: seconds of a step, and of the epoch with its shuffling."""
    W = (torch.randn(X.shape[1], classes) * 0.01).requires_grad_()
    b = torch.zeros(classes, requires_grad=True)
    start = time.perf_counter()
    perm = torch.randperm(len(X))
    X_shuffled, y_shuffled = X[perm], y[perm]
    shuffled = time.perf_counter()
    for first in range(0, len(X), batch_size):
        X_batch, y_batch = X_shuffled[first : first + batch_size], y_shuffled[first : first + batch_size]
        logits = X_batch @ W + b
        log_probs = torch.log_softmax(logits, dim=1)
        nll = -log_probs[torch.arange(len(X_batch)), y_batch]
        loss = nll.mean() + l2 * (W**2).sum()
        loss.backward()
        with torch.no_grad():
            W.data -= lr * W.grad  # type: ignore[operator]
            b.data -= lr * b.grad  # type: ignore[operator]
            W.grad.zero_()  # type: ignore[union-attr]
            b.grad.zero_()  # type: ignore[union-attr]
    end = time.perf_counter()
    return (end - shuffled) / -(-len(X) // batch_size), end - start


class BareLoop:
    """The same arithmetic on sparse rows, and nothing around it.

    Args:
        features: D.
        classes: K.
        lazy: keep L2's shrinking as one number until the epoch ends, as SoftmaxRegression does; else shrink all of W
            in every step.
        device: where W lives.
    """

    def __init__(self, features: int, classes: int, lazy: bool = True, device: str = "cpu") -> None:
        self.W = torch.randn(features, classes, device=device).mul_(0.01).requires_grad_()
        self.b = torch.zeros(classes, device=device, requires_grad=True)
        self.lazy, self.decay = lazy, 1.0

    def step(self, x: Tensor, y: Tensor, lr: float, l2: float) -> None:
        """Forward, loss, backward, update, zero; x is (N, D) sparse CSR."""
        W, b, shrink = self.W, self.b, 1 - 2 * lr * l2
        product = torch.nn.functional.embedding_bag(
            x.col_indices(),
            W,
            x.crow_indices(),
            per_sample_weights=x.values(),
            mode="sum",
            sparse=True,
            include_last_offset=True,
        )
        log_proba = torch.log_softmax(product * self.decay + b, dim=1)
        loss = -log_proba[torch.arange(len(y), device=y.device), y].mean()
        loss.backward()
        with torch.no_grad():
            if self.lazy:
                before, self.decay = self.decay, self.decay * shrink
                W -= lr / (before * self.decay) * W.grad  # type: ignore[operator, misc]
            else:
                W *= shrink
                W -= lr * W.grad  # type: ignore[operator, misc]
            b -= lr * b.grad  # type: ignore[operator, misc]
        W.grad = b.grad = None

    def epoch(self, rows: Rows, batches: EpochBatches, number: int, lr: float, l2: float) -> float:
        """Seconds of a step, over one epoch: cutting the batch out of the matrix included."""
        start = time.perf_counter()
        batches.set_epoch(number)
        for draw in batches:
            x, y, _ = rows[draw]
            self.step(x, y, lr, l2)
        with torch.no_grad():
            self.W *= self.decay
            self.decay = 1.0
        return (time.perf_counter() - start) / len(batches)


class Stopwatch(L.Callback):
    """Writes down when things happen in a fit; `Stopwatch.latest` is that of the last one."""

    latest: ClassVar["Stopwatch"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """The first that a callback hears of a fit."""
        Stopwatch.latest, self.started = self, time.perf_counter()
        self.steps: list[float] = []  # when each step began
        self.epochs: list[float] = []  # seconds of training in each epoch, validation excluded
        self.curve: list[tuple[float, float]] = []  # seconds since the start, in-scope accuracy

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After the sanity check."""
        self.training_started = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The epoch begins."""
        self.device = pl_module.device
        self.epoch: float | None = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """A step begins."""
        self.steps.append(time.perf_counter())

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The epoch's training is over."""
        if not trainer.sanity_checking:
            self._end_of_training()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Likewise, where nothing was validated."""
        self._end_of_training()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The accuracy of these weights is known."""
        if not trainer.sanity_checking:
            accuracy = float(trainer.callback_metrics["val/in_scope_accuracy"])
            self.curve.append((time.perf_counter() - self.started, accuracy))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validation, curves and checkpoints are done too."""
        end = time.perf_counter()
        self.fit, self.whole = end - self.training_started, end - self.started
        self.num_epochs, self.num_steps = trainer.current_epoch, trainer.global_step

    def _end_of_training(self) -> None:
        if self.epoch is not None:
            if self.device.type == "cuda":  # it may still be at work
                torch.cuda.synchronize()
            self.epochs.append(time.perf_counter() - self.epoch)
            self.epoch = None


def slim_fit(
    model: L.LightningModule, data: L.LightningDataModule, *callbacks: L.Callback, **options: Any
) -> Stopwatch:
    """A fit under a Trainer with everything off that can be: no logger, bar, checkpoints, or validation."""
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    none = {"num_sanity_val_steps": 0, "limit_val_batches": 0}
    L.Trainer(**{"accelerator": "cpu"} | off | none | options, callbacks=[Stopwatch(), *callbacks]).fit(model, data)
    return Stopwatch.latest


def shipped_fit(*arguments: str) -> Stopwatch:
    """`python train.py fit --config configs/clinc150.yaml` with all its defaults, on a terminal, in this process."""
    with tempfile.TemporaryDirectory() as folder, terminal():
        command = ["train.py", "fit", "--config", str(CONFIG), "--trainer.default_root_dir", f"{folder}/run"]
        watch = ["--trainer.accelerator", "cpu", "--trainer.callbacks+=benchmarks.contestants.Stopwatch"]
        kept, sys.argv = sys.argv, [*command, *watch, *arguments]
        try:
            train.main()
        finally:
            sys.argv = kept
    return Stopwatch.latest
