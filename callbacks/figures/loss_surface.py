"""The loss surface of a binary model with two weights, and their path down it (article 1's picture).

The map is exact, not interpolated from the path: a slice through the objective over all training rows, with b as it is
at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor

from callbacks.figures.boundary import Grid, on_grid
from callbacks.figures.canvas import BLUE, GREY, INK, MARKS, ORANGE, publish, without_unit
from callbacks.protocols import DESCENDING_MODEL, PLOTTABLE_DATA, datamodule_of, lack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESOLUTION, MARGIN = 160, 0.35
NUM_LEVELS = 14


def surface(model: Any, x: Tensor, target: Tensor, path: Tensor) -> Grid:
    """The objective (R, R) around a path of weights.

    Args:
        model: with two weights.
        x: all training rows as the model takes them, (N, 2).
        target: their classes, (N,).
        path: the weights over time, (T, 2).
    """
    low, high = path.amin(dim=0), path.amax(dim=0)
    span = (high - low).clamp(min=1e-3)
    span = torch.maximum(span, span.max() / 2)  # a path along one axis still has a map of some height
    middle, reach = (low + high) / 2, (0.5 + MARGIN) * span
    bias = model.coefficients()[1].to(x)

    def objective(w: Tensor) -> Tensor:
        return model.nll(x @ w + bias, target, len(target)) + model.l2 * w.square().sum()

    return on_grid(middle - reach, middle + reach, RESOLUTION, lambda w: torch.vmap(objective)(w.to(x)).cpu())


def draw(ax: Axes, grid: Grid, path: Tensor, names: Sequence[str], epochs: int) -> None:
    """Lines of equal objective, its minimum, and over them the path from its start to its end."""
    import numpy as np

    objective = grid.values.numpy()
    low, high = objective.min(), objective.max()
    # Equal steps of the square root: the levels are dense at the bottom of the valley, where the path ends.
    levels = low + (high - low) * np.linspace(0, 1, NUM_LEVELS)[1:] ** 2
    lines = ax.contour(grid.x1.numpy(), grid.x2.numpy(), objective, levels=levels, colors=[GREY], linewidths=0.8)
    ax.clabel(lines, levels[1::2], fmt="%.3g", fontsize=9)
    w1, w2 = path.T.numpy()
    ax.plot(w1, w2, color=BLUE, linewidth=1.6, marker="o", markersize=3.5, label="after each epoch")
    marks = [(w1[0], w2[0], "o", "white", "start"), (w1[-1], w2[-1], "D", ORANGE, "end")]
    row, column = divmod(int(objective.argmin()), len(grid.x1))
    if 0 < row < len(grid.x2) - 1 and 0 < column < len(grid.x1) - 1:  # at an edge it would not be the minimum
        marks.append((grid.x1[column], grid.x2[row], "P", INK, f"minimum, {low:.3g},\nat the last b"))
    for x, y, marker, colour, name in marks:
        ax.plot(x, y, marker=marker, color=colour, label=name, **MARKS | {"markeredgecolor": INK})
    ax.set(xlabel=f"weight of {without_unit(names[0])}", ylabel=f"weight of {without_unit(names[1])}", aspect="equal")
    ax.set_title(f"{epochs} epochs of descent, across the lines of equal objective")
    ax.spines[:].set_visible(True)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02))


class LossSurface(L.Callback):
    """At the end of `fit`, figures/loss_surface.png: the objective over the two weights, and their path.

    The same picture goes to TensorBoard. The path has the weights at the start and after each epoch; a resumed run
    continues it. It needs a `DESCENDING_MODEL` with two features, and `PLOTTABLE_DATA`.

    Raises:
        ValueError: from `setup`, a model or data that has no such picture.
    """

    def __init__(self) -> None:
        self.path: list[list[float]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        data = datamodule_of(trainer)
        unmet = lack(pl_module, DESCENDING_MODEL) or lack(data, PLOTTABLE_DATA)
        if unmet:
            raise ValueError(f"LossSurface does not apply: {unmet}; add it, or remove the callback")
        if (shape := tuple(pl_module.coefficients()[0].shape)) != (2, 1):  # type: ignore[operator]
            raise ValueError(f"LossSurface draws a model of exactly 2 weights, got {shape}: remove the callback")

    def state_dict(self) -> dict[str, Any]:
        return {"path": self.path}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.path = [list(map(float, weights)) for weights in state_dict["path"]]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.path:
            self._remember(pl_module)

    # Before the hooks of checkpoint callbacks, so that a checkpoint of this epoch has its weights on the path.
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._remember(pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw the path; also where a resume finds that the training had been completed."""
        if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        data, path = datamodule_of(trainer), torch.tensor(self.path, dtype=torch.float64)
        x, target = data.points("train")
        weight = next(pl_module.parameters())
        with torch.no_grad():
            x, target = data.transform(x).to(weight.device, weight.dtype), target.to(weight.device)
            grid = surface(pl_module, x.double(), target, path)
        scene = (grid, path, data.feature_names, len(path) - 1)
        publish(trainer, "loss_surface", lambda figure: draw(figure.add_subplot(), *scene), trainer.global_step)

    def _remember(self, model: Any) -> None:
        self.path.append(model.coefficients()[0][:, 0].tolist())
