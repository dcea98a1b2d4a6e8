"""Pictures of what a model learned: each function draws given numbers on a matplotlib Axes, and computes nothing else.

Every Axes should be of a Figure with `layout="constrained"`, which makes room for labels and legends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from callbacks.figures.boundary import COLOURS, GREY, INK
from callbacks.figures.curves import Array, Bins, ThresholdCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE = COLOURS[0], COLOURS[1]  # differ in lightness too, so a grey print keeps them apart
MARKS: dict[str, Any] = {"linestyle": "none", "markersize": 9, "markeredgecolor": "white", "zorder": 4}
LONGEST_NAME = 28  # characters of a name on an axis


def shortened(name: str) -> str:
    """A name with its middle left out where it is too long for an axis.

    >>> shortened("a_very_long_name_of_some_unusual_intent")
    'a_very_long_na…nusual_intent'
    """
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"


def confusion_matrix(ax: Axes, counts: Array, names: Sequence[str], title: str) -> None:
    """Counts (K, K) with true classes down and answers across; the colour is the share of the row.

    Args:
        ax: where to draw.
        counts: rows of each true class by answer.
        names: K names.
        title: printed above.
    """
    from sklearn.metrics import ConfusionMatrixDisplay

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [shortened(name) for name in names]
    display = ConfusionMatrixDisplay(shares, display_labels=names)
    display.plot(ax=ax, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1})
    size = 11 if len(names) <= 12 else 8
    for (row, column), text in np.ndenumerate(display.text_):
        text.set(text=counts[row, column] or "", fontsize=size, fontweight="bold" if row == column else "normal")
    rotated = max(map(len, names)) * len(names) > 60
    ax.set_xticks(range(len(names)), names, rotation=40 if rotated else 0, ha="right" if rotated else "center")
    ax.spines[:].set_visible(False)
    _finish(ax, title, "answer", "true class")


def confused_pairs(ax: Axes, pairs: Sequence[tuple[str, str, int]], title: str) -> None:
    """A bar for each pair (true class, wrong answer, rows), the first on top."""
    labels = [f"{shortened(truth)}  →  {shortened(answer)}" for truth, answer, _ in pairs]
    bars = ax.barh(range(len(pairs)), [count for *_, count in pairs], color=BLUE, height=0.7)
    ax.bar_label(bars, padding=4, fontsize=10, color=INK)
    ax.set_yticks(range(len(pairs)), labels)
    ax.set_ylim(len(pairs) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(_whole_numbers())
    _finish(ax, "", "rows (true class → answer)", "", open_frame=True)
    ax.figure.suptitle(title, fontsize=14, x=0.01, ha="left")  # beside the long names there is no room for it


def reliability(ax: Axes, below: Axes, curves: dict[str, Bins], title: str) -> None:
    """Accuracy over confidence above, the number of rows in each bin below.

    Args:
        ax: for accuracy.
        below: for the rows, a flat Axes that shares the horizontal axis.
        curves: one or two by name; the last is the one that `predict` uses.
        title: printed above.
    """
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, linestyle="dashed", label="as often right as confident")
    styles = (("o", ORANGE), ("s", BLUE))[-len(curves) :]
    num_bins = len(next(iter(curves.values())).rows)
    edges = np.linspace(0, 1, num_bins + 1)
    width = 0.9 / num_bins / len(curves)
    for number, ((name, bins), (marker, colour)) in enumerate(zip(curves.items(), styles, strict=True)):
        filled = bins.rows > 0
        ax.plot(bins.confidence[filled], bins.accuracy[filled], marker=marker, color=colour, markersize=7, label=name)
        left = edges[:-1] + 0.05 / num_bins + number * width
        below.bar(left, bins.rows, width, align="edge", color=colour)
    ax.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    ax.legend(loc="upper left", frameon=False, fontsize=11)
    ax.tick_params(labelbottom=False)
    _finish(ax, title, "", "share of right answers", open_frame=True)
    _finish(below, "", "confidence: probability of the most probable class", "rows", open_frame=True)


def threshold_curve(ax: Axes, curve: ThresholdCurve, chosen: float | None, title: str) -> None:
    """In-scope accuracy against out-of-scope recall over all thresholds, with the chosen threshold marked."""
    ax.plot(curve.oos_recall, curve.in_scope_accuracy, color=BLUE, linewidth=2)
    beside: dict[str, Any] = {"textcoords": "offset points", "fontsize": 10, "color": GREY}
    labelled = [] if chosen is None else [point_at(curve, chosen)[0]]
    for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
        x, y = point_at(curve, threshold)
        ax.plot(x, y, marker="o", color=BLUE, markersize=5)
        if all(abs(x - other) > 0.05 for other in labelled):  # else the numbers would overlap
            labelled.append(x)
            ax.annotate(f"{threshold:g}", (x, y), (-5, -5), ha="right", va="top", **beside)
    if chosen is not None:
        x, y = point_at(curve, chosen)
        ax.plot(x, y, marker="D", color=ORANGE, label=f"chosen: {chosen:.3f}", **MARKS)
        text = f"threshold {chosen:.3f}:\n{y:.1%} in scope right, {x:.1%} out of scope found"
        place: dict[str, Any] = {"fontsize": 11, "color": INK, "ha": "left", "va": "top"}
        ax.annotate(text, (x, y), (0.05, 0.4), textcoords="axes fraction", arrowprops=_arrow(), **place)
    ax.set(xlim=(-0.01, 1.01), ylim=(0, 1.02))
    _finish(ax, title, "out-of-scope recall", "in-scope accuracy", open_frame=True)


def score_histogram(ax: Axes, in_scope: Array, oos: Array, chosen: float | None, title: str) -> None:
    """The scores of in-scope and of out-of-scope rows, each as a share of its kind, with the threshold between them."""
    bins = np.linspace(0, 1, 41).tolist()
    for scores, colour, name in ((in_scope, BLUE, "in scope"), (oos, ORANGE, "out of scope")):
        weights = np.full(len(scores), 1 / max(len(scores), 1))
        label = f"{name}, {len(scores):,} rows"
        ax.hist(scores, bins, weights=weights, histtype="stepfilled", color=colour, alpha=0.35)
        ax.hist(scores, bins, weights=weights, histtype="step", color=colour, linewidth=1.8, label=label)
    if chosen is not None:
        ax.axvline(chosen, color=INK, linewidth=1.6, linestyle="dashed", label=f"threshold {chosen:.3f}")
    ax.legend(loc="upper center", frameon=False, fontsize=11)
    ax.set_yscale("log")  # nearly all in-scope rows may be in the last bin
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    ax.set(xlim=(0, 1), ylim=(0.5 / max(len(in_scope), len(oos)), 4))
    _finish(ax, title, "highest in-scope probability", "share of the rows of its kind (log scale)", open_frame=True)


def risk_coverage(ax: Axes, handed_over: Array, accuracy: Array, title: str) -> None:
    """Accuracy over the rows that are answered, against the share of rows that go to a person."""
    ax.plot(handed_over, accuracy, color=BLUE, linewidth=2)
    lowest, labelled = max(0.0, min(accuracy[0], accuracy.min()) - 0.08), -1.0
    for share in (0.0, 0.1, 0.2, 0.3):
        y = float(accuracy[min(int(np.searchsorted(handed_over, share)), len(accuracy) - 1)])
        ax.plot(share, y, marker="o", color=ORANGE, **MARKS)
        if abs(y - labelled) > 0.06 * (1 - lowest):  # else the numbers would overlap
            labelled = y
            ax.annotate(f"{share:.0%}: {y:.1%}", (share, y), (8, -5), textcoords="offset points", va="top", fontsize=11)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(_percent())
    ax.set(xlim=(-0.02, 1), ylim=(lowest, 1 + 0.03 * (1 - lowest)))
    _finish(ax, title, "share of rows that go to a person, the least certain", "accuracy on the rest", open_frame=True)


def precision_recall_and_roc(
    left: Axes, right: Axes, target: Array, score: Array, thresholds: dict[str, float], title: str
) -> None:
    """Both curves of a binary model, with the same thresholds marked on each.

    Args:
        left: for precision over recall.
        right: for the true over the false positive rate.
        target: 0 or 1, (N,).
        score: probability of class 1, (N,).
        thresholds: by the name to show.
        title: printed above, on the left.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    precision, recall, _ = precision_recall_curve(target, score)
    area = f"average precision {average_precision_score(target, score):.3f}"
    left.plot(recall, precision, color=BLUE, linewidth=2, drawstyle="steps-post", label=area)
    false_rate, true_rate, _ = roc_curve(target, score)
    right.plot(false_rate, true_rate, color=BLUE, linewidth=2, label=f"area {roc_auc_score(target, score):.3f}")
    right.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, linestyle="dashed", label="by chance: area 0.5")
    for (name, threshold), (marker, colour) in zip(thresholds.items(), (("o", INK), ("D", ORANGE)), strict=False):
        said, true = score >= threshold, target == 1
        hits = (said & true).sum()
        recall, precision = hits / max(true.sum(), 1), hits / max(said.sum(), 1)
        false_alarms = (said & ~true).sum() / max((~true).sum(), 1)
        left.plot(recall, precision, marker=marker, color=colour, label=name, **MARKS)
        right.plot(false_alarms, recall, marker=marker, color=colour, label=name, **MARKS)
    corners: tuple[Any, ...] = ((left, "lower left"), (right, "lower right"))
    for ax, corner in corners:
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        ax.legend(loc=corner, frameon=False, fontsize=10)
    _finish(left, title, "recall", "precision", open_frame=True)
    _finish(right, "", "false positive rate", "true positive rate", open_frame=True)


def features(ax: Axes, amounts: Sequence[tuple[str, float]], title: str) -> None:
    """A bar for each feature (name, coefficient), from the one that speaks most for a class to that most against it."""
    values = [amount for _, amount in amounts]
    colours = [BLUE if amount > 0 else ORANGE for amount in values]
    ax.barh(range(len(amounts)), values, color=colours, height=0.7)
    ax.axvline(0, color=INK, linewidth=0.8)
    # A space at the end of an n-gram of characters is part of it.
    names = [shortened(name.replace(" ", "␣") if name != name.strip() else name) for name, _ in amounts]
    ax.set_yticks(range(len(amounts)), names)
    ax.set_ylim(len(amounts) - 0.4, -0.6)
    _finish(ax, shortened(title), "coefficient", "", open_frame=True)
    ax.tick_params(axis="y", length=0)


def caption(figure: Figure, text: str) -> None:
    """A line in small print below all of a figure."""
    figure.supxlabel(text, x=0.99, ha="right", fontsize=9, color=GREY)


def point_at(curve: ThresholdCurve, threshold: float) -> tuple[float, float]:
    """Out-of-scope recall and in-scope accuracy at a threshold."""
    number = min(int(np.searchsorted(curve.threshold, threshold)), len(curve.threshold) - 1)
    return float(curve.oos_recall[number]), float(curve.in_scope_accuracy[number])


def _finish(ax: Axes, title: str, x: str, y: str, open_frame: bool = False) -> None:
    ax.set_title(title, fontsize=14, loc="left", pad=10)
    ax.set_xlabel(x, fontsize=12)
    ax.set_ylabel(y, fontsize=12)
    ax.tick_params(labelsize=10)
    if open_frame:
        ax.spines[["top", "right"]].set_visible(False)


def _arrow() -> dict[str, Any]:
    return {"arrowstyle": "-", "color": GREY, "linewidth": 1, "shrinkB": 6}


def _percent() -> Any:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(xmax=1)


def _whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)
