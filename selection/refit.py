"""Choice by cross-validation for `fit --refit folds`, where a few held-out rows would leave it to chance."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from cli.links import linked_value
from cli.refit import Choice
from logreg.calibration import best_temperature
from logreg.functional import log_softmax
from selection.configured import Configured
from selection.sample import cross_validated

FOLDS = 5


class EveryEpoch(L.Callback):
    """Keeps the probabilities of the validation rows after each epoch: of each fit a list of (n, K)."""

    def __init__(self) -> None:
        self.proba: list[list[Tensor]] = []
        self.parts: list[float] = []  # of the planned steps, after each epoch of the newest fit

    def on_fit_start(self, trainer: Any, model: L.LightningModule) -> None:
        self.proba.append([])
        self.parts, self.loader = [], trainer.datamodule.val_dataloader()

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Any, model: L.LightningModule) -> None:
        batches = map(trainer.precision_plugin.convert_input, map(trainer.strategy.batch_to_device, self.loader))
        model.eval()
        self.proba[-1].append(torch.cat([model.predict_step(batch, n).cpu() for n, batch in enumerate(batches)]))
        model.train()
        self.parts.append(trainer.global_step / trainer.estimated_stepping_batches)


def choose_by_folds(config: Path) -> Choice:
    """Epochs after which the mean −log p(label) of rows that a fit has not seen is smallest, for a run's configuration.

    Temperature and threshold, where the model is to choose them, are the best for the probabilities at that epoch.
    """
    configured, every_epoch = Configured(["--config", str(config)]), EveryEpoch()
    sample, folds = cross_validated(configured, FOLDS, every_epoch)
    target = torch.from_numpy(sample.target[np.concatenate([fold.rows for fold in folds])])
    lowest = torch.finfo(torch.float32).tiny  # of a class that a fit has ruled out
    # Of as many epochs as all fits have come to: each of them (N, K).
    epochs = [torch.cat(of_fits).double().clamp(lowest).log() for of_fits in zip(*every_epoch.proba, strict=False)]
    best = int(torch.stack([-log_proba.gather(1, target[:, None]).mean() for log_proba in epochs]).argmin())
    options, chosen, temperature = configured.config.model.init_args, {}, 1.0
    if options.get("calibrate") is True:
        chosen["calibrate"] = temperature = best_temperature(epochs[best], target)
    if options.get("threshold") in ("auto", "validation"):
        from logreg.decision import best_threshold, max_in_scope_proba

        oos_class = linked_value("oos_class", configured.config.model, configured.build()[1])
        if oos_class is not None:
            proba = log_softmax(epochs[best] / temperature).exp()
            chosen["threshold"] = best_threshold(*max_in_scope_proba(proba, oos_class), target, oos_class)
    return Choice(best + 1, every_epoch.parts[best], chosen)
