"""The losses of a fit over its epochs, from metrics.csv."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from callbacks.figures.canvas import BLUE, INK, MARKS, ORANGE
from callbacks.run.monitors import OF_VALIDATION, validation_loss

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OF_TRAINING = re.compile(r"(?i)(^|[^a-z])train(ing)?([^a-z]|$)")  # in the name of a metric
NOTICEABLE = 0.02  # of all that a loss has fallen

Curve = dict[int, float]  # the mean loss of each epoch that has one, by the number of epochs completed


def loss_curves(metrics: Path) -> dict[str, Curve]:
    """The losses of "training" and "validation" in a metrics.csv; without what has no loss, or several."""
    if not metrics.is_file():  # nothing was logged
        return {}
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if not name.endswith("_step")] if rows else []
    curves = {}
    for split, pattern in (("training", OF_TRAINING), ("validation", OF_VALIDATION)):
        loss = validation_loss(name for name in names if pattern.search(name))
        logged: dict[int, list[float]] = {}
        for row in rows if loss else []:
            if row["epoch"] and row[loss]:
                logged.setdefault(int(row["epoch"]) + 1, []).append(float(row[loss]))
        curve = {epoch: fmean(values) for epoch, values in logged.items()}
        if any(map(math.isfinite, curve.values())):
            curves[split] = curve
    return curves


def conclusion(split: str, losses: Sequence[float], epochs: Sequence[int]) -> str:
    """What the end of a curve shows: the loss rises again, still falls, or has settled; what is less is its noise.

    >>> conclusion("validation", [1.0, 0.5, 0.9], [1, 2, 3])
    'Validation loss rises again after epoch 2'
    """
    import numpy as np

    subject = f"{split.capitalize()} loss"
    if len(losses) == 1:
        return f"{subject} after epoch {epochs[0]}: {losses[0]:.3g}"
    quarters = np.array_split(np.array(losses), min(4, len(losses)))
    means, noise = np.array([quarter.mean() for quarter in quarters]), quarters[-1].std()
    if means[-1] - means.min() > max(5 * NOTICEABLE * np.ptp(means), noise):
        return f"{subject} rises again after epoch {epochs[int(np.argmin(losses))]}"
    is_new = np.argmin(losses) >= 0.95 * (len(losses) - 1)  # the lowest of all
    if is_new and means[-2] - means[-1] > max(NOTICEABLE * np.ptp(means), noise):
        return f"{subject} is still falling after {epochs[-1]} epochs"
    return f"{subject} has settled at {means[-1]:.3g}"


def draw(curves: dict[str, Curve], figure: Figure) -> None:
    """Lines of the losses, with the lowest one of the last line marked; the title is its `conclusion`."""
    ax = figure.add_subplot()
    for (split, curve), colour in zip(curves.items(), (BLUE, ORANGE), strict=False):
        label = "training, mean of logged batches" if split == "training" else split
        ax.plot([*curve], [*curve.values()], color=colour, label=label, marker="o", markersize=3)
    known = {epoch: loss for epoch, loss in curve.items() if math.isfinite(loss)}
    best = min(known, key=lambda epoch: known[epoch])
    ax.plot(best, known[best], marker="D", color=INK, label=f"lowest: {known[best]:.3g} after epoch {best}", **MARKS)
    ax.set(xlabel="epoch", ylabel="loss", title=conclusion(split, [*known.values()], [*known]))
    ax.locator_params(axis="x", integer=True)
    figure.legend(loc="outside lower center", ncols=3)  # within, it may lie on a curve
