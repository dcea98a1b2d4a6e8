"""TensorBoard as a teaching board: how weights, gradients and a few probabilities move while a model learns."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from callbacks.figures.canvas import CHANCE, publish
from callbacks.protocols import NAMED_CLASSES, PLOTTABLE_MODEL, datamodule_of, lack, offers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CURVES = 8  # of weights, each a curve; above, histograms

Curves = dict[str, dict[int, float]]  # by name, the value after each number of epochs


def draw(weights: Curves, proba: Curves, num_classes: int, figure: Figure) -> None:
    """The weights, where there are curves of them, beside the probabilities of the true class."""
    panels = {"Weights": weights, "Probability of the true class": proba}
    panels = {title: curves for title, curves in panels.items() if curves}
    figure.set_size_inches(5.5 * len(panels), 4.2)
    for ax, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, curve in curves.items():
            ax.plot([*curve], [*curve.values()], label=name)
        if curves is proba:
            ax.axhline(1 / num_classes, label=f"a guess, 1/{num_classes}", **CHANCE)
            ax.set_ylim(-0.02, 1.02)
        ax.set(xlabel="epoch", title=title)
        ax.locator_params(axis="x", integer=True)
        ax.legend()


class TeachingBoard(L.Callback):
    """Writes to TensorBoard, once an epoch:

    * under "weights", each weight of a linear model of at most 8 as a curve, or else a histogram of each parameter;
    * under "gradients", a histogram of each parameter's gradient in the epoch's last batch (of a sparse gradient, of
      the features that occur in that batch);
    * under "proba", the probability of the true class of the first, the middle and the last validation row.

    At the end of `fit`, figures/teaching_board.png has the curves in one picture. It needs a `PLOTTABLE_MODEL`, data
    with `class_names` (see `callbacks.protocols`), and batches that begin with x and target.

    Raises:
        ValueError: from `setup`, model or data lack a member.
    """

    def __init__(self) -> None:
        self.weights: Curves = {}
        self.proba: Curves = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        unmet = lack(pl_module, PLOTTABLE_MODEL) or lack(datamodule_of(trainer), NAMED_CLASSES)
        if stage == "fit" and unmet:
            raise ValueError(f"TeachingBoard does not apply: {unmet}; add it, or remove the callback")

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "proba": self.proba}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.weights, self.proba = state_dict["weights"], state_dict["proba"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step == 0:
            self._write_weights(trainer, pl_module, 0)

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write gradients before the update uses them up."""
        if trainer.is_last_batch:
            for name, parameter in pl_module.named_parameters():
                if (gradient := parameter.grad) is not None:
                    values = gradient.coalesce().values() if gradient.is_sparse else gradient
                    _write_histogram(trainer, f"gradients/{name}", values, trainer.global_step)  # steps count from 0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write_weights(trainer, pl_module, trainer.current_epoch + 1)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Write the probability of the true class for three rows of the first batch; no gradient is tracked here."""
        if batch_idx == 0 and not trainer.sanity_checking:
            x, target = batch[:2]
            proba = pl_module.predict_proba(x).gather(1, target.unsqueeze(1)).squeeze(1)
            names = datamodule_of(trainer).class_names
            for row in sorted({0, len(target) // 2, len(target) - 1}):
                name, epoch = f"row {row} is {names[target[row]]}", trainer.current_epoch + 1
                self.proba.setdefault(name, {})[epoch] = float(proba[row])
                _write_scalar(trainer, f"proba/{name}", float(proba[row]))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the curves; also where a resume finds that the training had been completed."""
        if self.proba and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            picture = partial(draw, self.weights, self.proba, len(datamodule_of(trainer).class_names))
            publish(trainer, "teaching_board", picture, trainer.global_step)

    def _write_weights(self, trainer: L.Trainer, model: Any, epoch: int) -> None:
        coefficients = model.coefficients() if offers(model, "coefficients") else None
        if coefficients is None or sum(part.numel() for part in coefficients) > MOST_CURVES:
            for name, parameter in model.named_parameters():
                _write_histogram(trainer, f"weights/{name}", parameter, max(trainer.global_step - 1, 0))
            return
        W, b = coefficients
        names = datamodule_of(trainer).class_names
        for row, part in [*((f"w{j}", w) for j, w in enumerate(W, start=1)), ("b", b)]:
            for name, value in zip(names, part.tolist(), strict=False):
                curve = row if len(part) == 1 else f"{row} of {name}"
                self.weights.setdefault(curve, {})[epoch] = value
                _write_scalar(trainer, f"weights/{curve}", value)


def _write_scalar(trainer: L.Trainer, tag: str, value: float) -> None:
    for board in _boards(trainer):
        board.add_scalar(tag, value, max(trainer.global_step - 1, 0))


def _write_histogram(trainer: L.Trainer, tag: str, values: Tensor, step: int) -> None:
    if values.numel() and values.isfinite().all():  # of a diverged model, or of no feature at all, there is none
        for board in _boards(trainer):
            board.add_histogram(tag, values, step)


def _boards(trainer: L.Trainer) -> list[Any]:
    """The SummaryWriter of each TensorBoard logger, which writes on the first process alone."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
