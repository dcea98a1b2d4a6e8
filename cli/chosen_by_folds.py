"""What `fit --refit folds` chooses by cross-validation, where a few held-out rows would leave it to chance."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from rich.progress import track
from torch import Tensor

from cli.folds import Sample, judge
from cli.links import linked_value
from cli.refit import Refit
from logreg.calibration import best_temperature
from logreg.functional import log_softmax

FOLDS = 5


class Choice(NamedTuple):
    """What a fit on all rows needs to know.

    Attributes:
        epochs: to train for.
        part: of the planned steps that these are, in (0, 1].
        options: of the model, by name: the temperature as "calibrate", the out-of-scope "threshold".
    """

    epochs: int
    part: float
    options: dict[str, float]


class EveryEpoch(L.Callback):
    """Keeps what a model makes of its validation rows after each epoch: of each fit a list of probabilities (n, K)."""

    def __init__(self) -> None:
        self.proba: list[list[Tensor]] = []
        self.parts: list[float] = []  # of the planned steps, after each epoch of the newest fit

    def on_fit_start(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        self.proba.append([])
        self.parts = []

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Any, model: L.LightningModule) -> None:
        batches = map(trainer.strategy.batch_to_device, trainer.datamodule.val_dataloader())
        model.eval()
        self.proba[-1].append(torch.cat([model.predict_step(batch, n).cpu() for n, batch in enumerate(batches)]))
        model.train()
        self.parts.append(trainer.global_step / trainer.estimated_stepping_batches)


def choose_by_folds(config: Path) -> Choice:
    """Epochs, temperature and threshold, from the answers to all rows of train and validation by fits without them.

    After so many epochs the mean −log p(label), as trained, is smallest. Temperature and threshold, where the model is
    to choose them, are the best for the probabilities at that epoch.

    Args:
        config: of a run.

    Raises:
        ValueError: a fit diverged, or no label has two rows.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # which tells of the machine at every fit
    refit, every_epoch = Refit(["--config", str(config)]), EveryEpoch()
    sample = Sample(refit)
    divided = sample.divide(FOLDS, refit.config.seed_everything)
    fits = judge(refit, sample, divided, [every_epoch])
    target = torch.cat([torch.from_numpy(f.target) for f in track(fits, "choosing by folds", len(divided))])
    lowest = torch.finfo(torch.float32).tiny  # of a class that a fit has ruled out
    # Of as many epochs as all fits have come to: each of them (N, K).
    epochs = [torch.cat(of_fits).double().clamp(lowest).log() for of_fits in zip(*every_epoch.proba, strict=False)]
    loss = torch.stack([-log_proba.gather(1, target[:, None]).mean() for log_proba in epochs])
    best = int(loss.argmin())
    return Choice(best + 1, every_epoch.parts[best], _model_options(refit, epochs[best], target))


def _model_options(refit: Refit, log_proba: Tensor, target: Tensor) -> dict[str, float]:
    """What of the model's options is chosen on rows, from log-probabilities (N, K) as trained."""
    configured, chosen, temperature = refit.config.model.init_args, {}, 1.0
    if configured.get("calibrate") is True:
        chosen["calibrate"] = temperature = best_temperature(log_proba, target)
    if configured.get("threshold") in ("auto", "validation"):
        from logreg.decision import best_threshold, max_in_scope_proba

        oos_class = linked_value("oos_class", refit.config.model, refit.build()[1])
        if oos_class is not None:
            proba = log_softmax(log_proba / temperature).exp()
            chosen["threshold"] = best_threshold(*max_in_scope_proba(proba, oos_class), target, oos_class)
    return chosen
