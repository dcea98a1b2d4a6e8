"""The columns of W of a linear model of pixels, each as a picture: the prototype of its class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import lightning as L
from torch import Tensor

from callbacks.figures.animation import Animation
from callbacks.figures.canvas import BLUE, GREY, ORANGE
from callbacks.protocols import PIXEL_DATA, datamodule_of, lack, offers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS = 5  # pictures in a row


def draw(figure: Figure, images: Tensor, names: Sequence[str], state: str) -> None:
    """Draw images (K, height, width) of weights below the names of their classes, all in the same colours."""
    from matplotlib.colors import LinearSegmentedColormap

    down = -(-len(images) // ACROSS)
    figure.set_size_inches(9, 0.6 + 1.9 * down)
    figure.suptitle(f"{state}: each column of W as a picture of its class", x=0.01, ha="left")
    axes = figure.subplots(down, ACROSS, squeeze=False).flatten()
    colours = LinearSegmentedColormap.from_list("against, for", [ORANGE, "white", BLUE])
    largest = float(images.abs().max())
    for ax, image, name in zip(axes, images.numpy(), names, strict=False):
        drawn = ax.imshow(image, cmap=colours, vmin=-largest, vmax=largest)
        ax.set_title(name, loc="center", pad=4)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=GREY, linewidth=0.5)
    for ax in axes[len(images) :]:
        ax.remove()
    bar = figure.colorbar(drawn, ax=axes[: len(images)], shrink=0.9)
    bar.set_ticks([-largest, 0, largest], labels=[f"{-largest:.2f}\nagainst", "0", f"{largest:.2f}\nfor it"])


class WeightImages(Animation):
    """Draws the columns of W every few epochs and after the last one: `Animation` has the files and when.

    It needs a model with `coefficients`, and `PIXEL_DATA` (see `callbacks.protocols`). A binary logit has
    one column, of the second class.

    Raises:
        ValueError: an argument is out of range; or, from `setup`, model or data cannot be drawn.
    """

    name, tag = "weights", "weights"

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        data = datamodule_of(trainer)
        unmet = lack(data, PIXEL_DATA)
        if unmet is None and not offers(pl_module, "coefficients"):
            unmet = f"{type(pl_module).__name__} has no coefficients, it is not linear"
        if unmet is None and len(pl_module.coefficients()[0]) != prod(data.image_shape):
            unmet = f"W has {len(pl_module.coefficients()[0])} rows, a picture {prod(data.image_shape)} pixels"
        if unmet:
            raise ValueError(f"WeightImages does not apply: {unmet}; remove the callback")
        self.draws = trainer.is_global_zero and not trainer.fast_dev_run  # type: ignore[attr-defined]

    def scene(self, trainer: L.Trainer, model: Any, state: str) -> Callable[[Figure], Any]:
        data, W = datamodule_of(trainer), model.coefficients()[0].detach().cpu().float()  # (D, K), or (D, 1)
        images, names = W.T.unflatten(1, data.image_shape).clone(), data.class_names[-W.shape[1] :]
        return lambda figure: draw(figure, images, names, state)
