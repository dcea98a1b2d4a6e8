"""The decision boundary of a model with two features, drawn while it trains.

N rows, K classes, R grid points along each axis; `proba` has one column per class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import lightning as L
import torch
from torch import Tensor

from callbacks.figures.animation import Animation
from callbacks.figures.canvas import COLOURS, GREY, INK
from callbacks.protocols import PLOTTABLE_DATA, PLOTTABLE_MODEL, datamodule_of, lack, offers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONFIDENT_FROM = 0.75  # a point whose highest probability is lower than this is drawn hollow
MARKERS = {"train": "o", "validation": "D"}
MARKER_AREA = {"train": 38.0, "validation": 32.0}  # pt²; a diamond looks larger than a circle of equal area
UNDECIDED = 0.001  # where no p is further from 1/K, which class is the likeliest is decided by rounding


class Grid(NamedTuple):
    """A function on a regular grid: x1 (R,), x2 (R,), and values (R, R, ...), whose rows run along x2."""

    x1: Tensor
    x2: Tensor
    values: Tensor


def on_grid(low: Tensor, high: Tensor, resolution: int, function: Callable[[Tensor], Tensor]) -> Grid:
    """Evaluate a function of rows (R², 2) on a grid between two corners, (2,) each."""
    x1, x2 = (torch.linspace(float(low[i]), float(high[i]), resolution, dtype=low.dtype) for i in (0, 1))
    rows = torch.cartesian_prod(x2, x1).flip(1)
    return Grid(x1, x2, function(rows).unflatten(0, (resolution, resolution)))


Points = tuple[Tensor, Tensor, Tensor]  # x (N, 2) in raw units, target (N,) class indices, proba (N, K)


def boundary_grid(x: Tensor, predict: Callable[[Tensor], Tensor], resolution: int = 200, margin: float = 0.1) -> Grid:
    """Evaluate a model on a grid that depends on the points alone, so that pictures of different epochs match.

    Args:
        x: (N, 2) all points that the picture shows, in raw units.
        predict: maps raw rows (M, 2) to probabilities (M, K).
        resolution: R, grid points along each axis.
        margin: free space on each side, as a share of the range of that feature.
    """
    low, high = x.min(dim=0).values, x.max(dim=0).values
    span = torch.where(high > low, high - low, 1.0)  # a constant feature still needs some width
    return on_grid(low - margin * span, high + margin * span, resolution, predict)


def draw(
    ax: Axes,
    grid: Grid,
    points: dict[str, Points],
    feature_names: Sequence[str],
    class_names: Sequence[str],
    state: str,
    per_class: Grid | None = None,
) -> None:
    """Draw regions, borders, points and a legend to the right of them.

    Args:
        ax: where to draw. Its figure should have `layout="constrained"`, which makes room for the legend.
        grid: probabilities whose rows sum to 1.
        points: the rows of "train" and "validation", or of one of them.
        feature_names: two names, with units.
        class_names: K names, in the order of the columns of `proba`.
        state: what the title begins with, before the number of misclassified rows.
        per_class: for one-vs-all, each binary classifier's own probability (its sigmoid) on the same grid.
    """
    from matplotlib.colors import to_rgb

    K = len(class_names)
    colours = torch.tensor([to_rgb(colour) for colour in COLOURS[:K]])  # (K, 3)
    x1_range, x2_range = (float(grid.x1[0]), float(grid.x1[-1])), (float(grid.x2[0]), float(grid.x2[-1]))
    undecided = bool((grid.values - 1 / K).abs().max() < UNDECIDED)

    # Regions: the colour of the predicted class, from white at a tie (p = 1/K) to a strong tint at p = 1.
    p, predicted = grid.values.max(dim=-1)  # (R, R)
    tint = 0.55 * ((p * K - 1).clamp_min(0) / (K - 1)).float().unsqueeze(-1)
    tint = tint.nan_to_num()  # the picture of a diverged model stays white
    image = (1 - tint + tint * colours[predicted]).numpy()
    ax.imshow(image, extent=x1_range + x2_range, origin="lower", aspect="auto", interpolation="bilinear")

    if undecided:
        text = f"every p is within {UNDECIDED} of 1/{K}:\nno side is taken"
        ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, fontsize=13, color=INK)
    else:
        _draw_borders(ax, grid)
    if per_class is not None:
        for k in range(K):
            darker = 0.75 * colours[k].numpy()  # visible on the region of its own class
            log_odds = per_class.values[..., k].logit(eps=1e-7)
            _line(ax, per_class, log_odds, 0, darker, linestyles="dashed", linewidths=1.6)

    _draw_points(ax, points, colours, with_rings=not undecided)
    _draw_legends(ax, list(points), class_names, with_per_class=per_class is not None)
    ax.spines[:].set_visible(True)
    ax.locator_params(steps=[1, 2, 5, 10])
    wrong = sum(int((proba.argmax(dim=1) != target).sum()) for _, target, proba in points.values())
    rows = sum(len(target) for _, target, _ in points.values())
    said = f"a coin toss, p = 1/{K}" if undecided else f"{wrong} of {rows} rows misclassified"
    ax.set(xlim=x1_range, ylim=x2_range, xlabel=feature_names[0], ylabel=feature_names[1], title=f"{state}: {said}")


def _draw_borders(ax: Axes, grid: Grid) -> None:
    """Solid lines between regions, dotted ones within which a class is confident.

    They are levels of log-odds, which are smooth, so a line can be interpolated between grid points; the probabilities
    of a confident model jump from 0 to 1 there, and their 0.5 line would be a staircase.
    """
    log_proba, confident = grid.values.clamp_min(1e-7).log(), math.log(CONFIDENT_FROM / (1 - CONFIDENT_FROM))
    K = log_proba.shape[-1]
    for k in range(K):
        own, others = log_proba[..., k], torch.cat([log_proba[..., :k], log_proba[..., k + 1 :]], dim=-1)
        if k or K > 2:
            _line(ax, grid, own - others.amax(dim=-1), 0, INK, linestyles="solid", linewidths=1.8)
        _line(ax, grid, own - others.logsumexp(dim=-1), confident, INK, linestyles="dotted", linewidths=1.2)


def _line(ax: Axes, grid: Grid, score: Tensor, level: float, colour: Any, **style: Any) -> None:
    if score.min() < level < score.max():
        ax.contour(grid.x1.numpy(), grid.x2.numpy(), score.numpy(), levels=[level], colors=[colour], **style)


def _draw_points(ax: Axes, points: dict[str, Points], colours: Tensor, with_rings: bool) -> None:
    # No jitter. Coinciding points of different class or split become concentric markers, the largest at the bottom.
    tables = []
    for number, (x, target, proba) in enumerate(points.values()):
        p, predicted = proba.max(dim=1)
        attributes = [target, torch.full_like(target, number), p >= CONFIDENT_FROM, predicted != target]
        tables.append(torch.cat([x.double(), torch.stack(attributes, dim=1).double()], dim=1))  # (N, 6)
    rows = torch.cat(tables).unique(dim=0)  # sorted, so coinciding rows are neighbours
    _, spot, count = rows[:, :2].unique_consecutive(dim=0, return_inverse=True, return_counts=True)
    depth = torch.arange(len(rows)) - (count.cumsum(0) - count)[spot]  # 0 is the topmost of its spot

    x1, x2, colour = rows[:, 0].numpy(), rows[:, 1].numpy(), colours[rows[:, 2].long()]
    confident, wrong = rows[:, 4:5].bool(), rows[:, 5].bool() & with_rings
    face, edge = torch.where(confident, colour, 1.0), torch.where(confident, 1.0, colour)  # 1.0 is white
    width = torch.where(confident[:, 0], 0.7, 1.5)
    area = torch.tensor([MARKER_AREA[split] for split in points])[rows[:, 3].long()] * (1 + 1.6 * depth)
    for level in reversed(range(int(depth.max()) + 1)):
        for number, split in enumerate(points):
            here = (depth == level) & (rows[:, 3] == number)
            style: dict[str, Any] = {"edgecolors": edge[here].numpy(), "linewidths": width[here].numpy()}
            ax.scatter(x1[here], x2[here], area[here], face[here].numpy(), marker=MARKERS[split], zorder=3, **style)
    ax.scatter(x1[wrong], x2[wrong], 3.5 * area[wrong], "none", edgecolors=INK, linewidths=1.4, zorder=4)


def _draw_legends(ax: Axes, splits: list[str], class_names: Sequence[str], with_per_class: bool) -> None:
    # Every mark is listed at every epoch, drawn or not, so that the frames of the GIF match.
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def mark(label: str, marker: str = "o", face: str = GREY, edge: str = GREY, size: float = 6.5) -> Line2D:
        colours: dict[str, Any] = {"markerfacecolor": face, "markeredgecolor": edge, "markeredgewidth": 1.4}
        return Line2D([], [], linestyle="none", marker=marker, markersize=size, label=label, **colours)

    classes = [Patch(color=colour, label=name) for colour, name in zip(COLOURS, class_names, strict=False)]
    border = "border, p = 0.5" if len(class_names) == 2 else "border of regions"
    marks = [
        *(mark(split, MARKERS[split]) for split in splits),
        mark(f"uncertain, p < {CONFIDENT_FROM}", face="white"),
        mark("misclassified", face="none", edge=INK, size=11),
        Line2D([], [], color=INK, linewidth=1.8, label=border),
        Line2D([], [], color=INK, linewidth=1.2, linestyle="dotted", label=f"p = {CONFIDENT_FROM}"),
    ]
    if with_per_class:
        label = "p = 0.5 of one class\nagainst the rest"
        marks.append(Line2D([], [], color=GREY, linewidth=1.6, linestyle="dashed", label=label))

    style: dict[str, Any] = {"title_fontsize": 10, "alignment": "left"}
    title = "Point: true class\nRegion: predicted class,\nstronger = more certain"
    upper = ax.legend(handles=classes, title=title, loc="upper left", bbox_to_anchor=(1.01, 1.02), **style)
    ax.legend(handles=marks, loc="lower left", bbox_to_anchor=(1.01, -0.02), **style)
    ax.add_artist(upper)  # the second call of legend() removed it


class DecisionBoundary(Animation):
    """Draws the decision boundary every few epochs and after the last one: `Animation` has the files and when.

    It needs a `PLOTTABLE_MODEL`, and `PLOTTABLE_DATA` with two features (see `callbacks.protocols`). For one-vs-all the
    border of each class's own classifier is drawn too.

    Args:
        every_n_epochs: as in `Animation`.
        resolution: number of grid points along each feature, 2 to 2000.
        margin: free space around the data, as a share of each feature's range, 0 to 10.
        required: false draws nothing, instead of refusing, where there are other than two features.

    Raises:
        ValueError: an argument is out of range; or, from `setup`, model or data cannot be drawn.
    """

    name, tag = "boundary", "decision_boundary"

    def __init__(
        self, every_n_epochs: int | None = None, resolution: int = 200, margin: float = 0.1, required: bool = True
    ) -> None:
        super().__init__(every_n_epochs)
        for name, value, low, high in (("resolution", resolution, 2, 2000), ("margin", margin, 0, 10)):
            if not low <= value <= high:
                raise ValueError(f"expected {name} of at least {low} and at most {high}, got {value}")
        self.resolution, self.margin, self.required = resolution, margin, required

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        data = datamodule_of(trainer)
        unmet = lack(pl_module, PLOTTABLE_MODEL) or lack(data, PLOTTABLE_DATA)
        if unmet:
            raise ValueError(f"DecisionBoundary does not apply: {unmet}; add it, or remove the callback")
        names, num_classes, self.draws = data.feature_names, len(data.class_names), False
        if not self.required and not (len(names) == data.points("train")[0].shape[1] == 2):
            return
        if len(names) != 2:
            listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            raise ValueError(
                f"DecisionBoundary draws exactly 2 features, got {len(names)} ({listed}): "
                "set data.init_args.features to two names, or remove the callback"
            )
        if not 2 <= num_classes <= len(COLOURS):
            raise ValueError(
                f"DecisionBoundary has colours for 2 to {len(COLOURS)} classes, got {num_classes}: "
                "choose fewer classes, or remove the callback"
            )
        # One process draws, so nothing there may wait for the others.
        self.draws = trainer.is_global_zero and not trainer.fast_dev_run  # type: ignore[attr-defined]

    def scene(self, trainer: L.Trainer, model: Any, state: str) -> Callable[[Figure], Any]:
        data, weight = datamodule_of(trainer), next(model.parameters())

        def on_raw_rows(method: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            return lambda x: method(data.transform(x).to(weight.device, weight.dtype)).cpu().double()

        points = {}
        for name, split in (("train", "train"), ("validation", "val")):
            x, target = data.points(split)
            known = x.isfinite().all(dim=1)
            if known.any():
                points[name] = x[known], target[known], on_raw_rows(model.predict_proba)(x[known])
        x, size = torch.cat([x for x, _, _ in points.values()]), (self.resolution, self.margin)
        names = (data.feature_names, data.class_names)
        per_class = None
        if offers(model, "predict_proba_per_class"):
            per_class = boundary_grid(x, on_raw_rows(model.predict_proba_per_class), *size)
        grid = boundary_grid(x, on_raw_rows(model.predict_proba), *size)
        return lambda figure: draw(figure.add_subplot(), grid, points, *names, state, per_class)
