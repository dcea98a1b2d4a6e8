"""Pictures of an evaluation, each a function that draws the rows of a split on a matplotlib Figure.

Precision-recall, ROC, calibration and confusion are drawn by scikit-learn's Displays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from callbacks.figures.canvas import BLUE, GREY, INK, ORANGE
from callbacks.figures.curves import Array, before_scaling, confused_pairs, risk_coverage, threshold_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS: dict[str, Any] = {"linestyle": "none", "markersize": 9, "markeredgecolor": "white", "zorder": 4}
CHANCE: dict[str, Any] = {"color": GREY, "linewidth": 1.2, "linestyle": "dashed"}
LONGEST_NAME = 28  # characters of a name on an axis
MOST_CLASSES = 20  # of a confusion matrix; above, only the most confused pairs are shown
NUM_PAIRS = 20
CALIBRATION_BINS, ECE_BINS = 10, 15  # the latter as in the metric `test/ece`
NUM_CLASSES, NUM_FEATURES = 6, 8  # in the picture of the strongest features


@dataclass
class EvaluatedRows:
    """N classified rows of a split with K classes."""

    target: Array  # true classes, (N,)
    predicted: Array  # classes as `predict` gives them, (N,)
    proba: Array  # (N, K)
    names: Sequence[str]  # K
    caption: str = ""  # which rows they are, printed below each picture
    groups: Sequence[str] | None = None  # the group of each class, K names
    oos_class: int | None = None  # index of the class that means "none of the others"
    threshold: float | None = None  # below which the largest in-scope probability means out of scope
    temperature: float = 1.0  # at which `proba` are; 1 where they are as trained
    scores: Tensor | None = None  # of a linear model the `class_scores` of W, (D, K)
    feature_names: Sequence[str] = ()  # D, where there are `scores`


def pictures(rows: EvaluatedRows, classes: Sequence[str] | None = None) -> dict[str, Callable[[Figure], Any]]:
    """Every picture that applies, by name.

    Args:
        rows: to be shown.
        classes: in the picture of the strongest features; None for those with the most errors.
    """
    drawn: dict[str, Callable[[EvaluatedRows, Figure], Any]] = {}
    if len(rows.names) <= MOST_CLASSES:
        drawn["confusion"] = confusion
    else:
        if _pairs(rows):
            drawn["confused_pairs"] = draw_confused_pairs
        if rows.groups is not None and len(set(rows.groups)) <= MOST_CLASSES:
            drawn["confusion_of_groups"] = confusion_of_groups
    drawn |= {"reliability": reliability, "risk_coverage": draw_risk_coverage}
    if rows.oos_class is not None:
        if 0 < (rows.target == rows.oos_class).sum() < len(rows.target):
            drawn["threshold"] = draw_threshold_curve
    elif len(rows.names) == 2 and len(set(rows.target.tolist())) == 2:
        drawn["precision_recall_roc"] = precision_recall_and_roc
    if rows.scores is not None:
        drawn["top_features"] = partial(top_features, classes=classes)

    def with_caption(draw: Callable[[EvaluatedRows, Figure], Any], figure: Figure) -> None:
        draw(rows, figure)
        figure.supxlabel(rows.caption, x=0.99, ha="right", fontsize=9, color=GREY)

    return {name: partial(with_caption, draw) for name, draw in drawn.items()}


def confusion(rows: EvaluatedRows, figure: Figure) -> None:
    """The confusion matrix of few classes."""
    _draw_matrix(figure, rows.target, rows.predicted, rows.names, "right")


def confusion_of_groups(rows: EvaluatedRows, figure: Figure) -> None:
    """The confusion matrix of the groups of many classes."""
    assert rows.groups is not None
    names = list(dict.fromkeys(rows.groups))
    group_of_class = np.array([names.index(group) for group in rows.groups])
    _draw_matrix(figure, group_of_class[rows.target], group_of_class[rows.predicted], names, "in the right group")


def _draw_matrix(figure: Figure, target: Array, predicted: Array, names: Sequence[str], right: str) -> None:
    """Counts with true classes down and predicted ones across; the colour is the share of the row."""
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    figure.set_size_inches(3.5 + 0.55 * len(names), 2.8 + 0.5 * len(names))
    ax, names, labels = figure.add_subplot(), [shortened(name) for name in names], range(len(names))
    counts = confusion_matrix(target, predicted, labels=labels)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    display = ConfusionMatrixDisplay(shares, display_labels=names)
    display.plot(ax=ax, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1})
    for (row, column), text in np.ndenumerate(display.text_):
        size, weight = 11 if len(names) <= 12 else 8, "bold" if row == column else "normal"
        text.set(text=counts[row, column] or "", fontsize=size, fontweight=weight)
    if max(map(len, names)) * len(names) > 60:
        ax.set_xticks(labels, names, rotation=40, ha="right")
    ax.spines[:].set_visible(False)
    title = f"{counts.trace():,} of {len(target):,} rows {right}"
    ax.set(title=title, xlabel="predicted class", ylabel="true class")


def draw_confused_pairs(rows: EvaluatedRows, figure: Figure) -> None:
    """A bar for each of the most frequent pairs of a true and another predicted class."""
    between = _pairs(rows)
    pairs = between[:NUM_PAIRS]
    counts = [count for *_, count in pairs]
    figure.set_size_inches(9, 1.4 + 0.3 * len(pairs))
    ax = figure.add_subplot()
    bars = ax.barh(range(len(pairs)), counts, color=BLUE, height=0.7)
    ax.bar_label(bars, padding=4, fontsize=10, color=INK)
    _list_down(ax, [f"{shortened(rows.names[t])}  →  {shortened(rows.names[p])}" for t, p, _ in pairs])
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("rows (true class → predicted class)")
    which = "" if rows.oos_class is None else " within the scope"
    total = sum(count for *_, count in between)
    _title_above(figure, f"The {len(pairs)} most frequent confusions{which}: {sum(counts):,} of {total:,}")


def _pairs(rows: EvaluatedRows) -> list[tuple[int, int, int]]:
    return [pair for pair in confused_pairs(rows.target, rows.predicted) if rows.oos_class not in pair[:2]]


def reliability(rows: EvaluatedRows, figure: Figure) -> None:
    """Accuracy over confidence above, as trained and at the temperature; below, the rows in each bin."""
    from sklearn.calibration import CalibrationDisplay
    from torchmetrics.functional.classification import multiclass_calibration_error

    figure.set_size_inches(7.5, 6.5)
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    ax.plot([0, 1], [0, 1], label="as often right as confident", **CHANCE)
    versions = [("as trained", rows.proba, "s", BLUE)]
    if rows.temperature != 1:
        versions = [("as trained", before_scaling(rows.proba, rows.temperature), "o", ORANGE)]
        versions.append((f"at T = {rows.temperature:.2f}", rows.proba, "s", BLUE))
    right, edges = rows.proba.argmax(axis=1) == rows.target, np.linspace(0, 1, CALIBRATION_BINS + 1)
    width = 0.9 / CALIBRATION_BINS / len(versions)
    for number, (name, proba, marker, colour) in enumerate(versions):
        confidence = proba.max(axis=1).clip(0, 1)
        scores, target = torch.from_numpy(proba), torch.from_numpy(rows.target)
        error = float(multiclass_calibration_error(scores, target, len(rows.names), n_bins=ECE_BINS))
        options: dict[str, Any] = {"marker": marker, "color": colour, "markersize": 7, "ref_line": False}
        options["name"] = f"{name}: calibration error {error:.3f}"
        CalibrationDisplay.from_predictions(right, confidence, n_bins=CALIBRATION_BINS, ax=ax, **options)
        count = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=CALIBRATION_BINS)
        below.bar(edges[:-1] + 0.05 / CALIBRATION_BINS + number * width, count, width, align="edge", color=colour)
    ax.legend(loc="upper left", fontsize=11)
    ax.tick_params(labelbottom=False)
    ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="", ylabel="share of right predictions")
    ax.set_title("Can its probabilities be trusted?")
    below.set(xlabel="confidence: probability of the most probable class", ylabel="rows")


def draw_risk_coverage(rows: EvaluatedRows, figure: Figure) -> None:
    """Accuracy over the rows that the model classifies, against the share of rows that go to a person."""
    from matplotlib.ticker import PercentFormatter

    ax = figure.add_subplot()
    handed_over, accuracy = risk_coverage(rows.proba.max(axis=1), rows.predicted == rows.target)
    ax.plot(handed_over, accuracy, color=BLUE)
    lowest, labelled = max(0.0, min(accuracy[0], accuracy.min()) - 0.08), -1.0
    for share in (0.0, 0.1, 0.2, 0.3):
        y = float(accuracy[min(int(np.searchsorted(handed_over, share)), len(accuracy) - 1)])
        ax.plot(share, y, marker="o", color=ORANGE, **MARKS)
        if abs(y - labelled) > 0.06 * (1 - lowest):  # else the numbers would overlap
            labelled = y
            ax.annotate(f"{share:.0%}: {y:.1%}", (share, y), (8, -5), textcoords="offset points", va="top", fontsize=11)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1))
    ax.set(xlim=(-0.02, 1), ylim=(lowest, 1 + 0.03 * (1 - lowest)))
    ax.set(xlabel="share of rows that go to a person, the least certain", ylabel="accuracy on the rest")
    ax.set_title("Accuracy if a person takes the least certain rows")


def draw_threshold_curve(rows: EvaluatedRows, figure: Figure) -> None:
    """In-scope accuracy against out-of-scope recall over all thresholds, with the chosen threshold marked."""
    assert rows.oos_class is not None
    ax, chosen = figure.add_subplot(), rows.threshold
    curve = threshold_curve(rows.proba, rows.target, rows.oos_class)
    ax.plot(curve.oos_recall, curve.in_scope_accuracy, color=BLUE)
    beside: dict[str, Any] = {"textcoords": "offset points", "fontsize": 10, "color": GREY}
    labelled = [] if chosen is None else [curve.at(chosen)[0]]
    for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
        x, y = curve.at(threshold)
        ax.plot(x, y, marker="o", color=BLUE, markersize=5)
        if all(abs(x - other) > 0.05 for other in labelled):  # else the numbers would overlap
            labelled.append(x)
            ax.annotate(f"{threshold:g}", (x, y), (-5, -5), ha="right", va="top", **beside)
    if chosen is not None:
        x, y = curve.at(chosen)
        ax.plot(x, y, marker="D", color=ORANGE, label=f"chosen: {chosen:.3f}", **MARKS)
        text = f"threshold {chosen:.3f}:\n{y:.1%} in scope right, {x:.1%} out of scope found"
        arrow = {"arrowstyle": "-", "color": GREY, "linewidth": 1, "shrinkB": 6}
        place: dict[str, Any] = {"fontsize": 11, "color": INK, "ha": "left", "va": "top"}
        ax.annotate(text, (x, y), (0.05, 0.4), textcoords="axes fraction", arrowprops=arrow, **place)
    ax.set(xlim=(-0.01, 1.01), ylim=(0, 1.02), title="Where should the threshold be?")
    ax.set(xlabel="out-of-scope recall", ylabel="in-scope accuracy")


def precision_recall_and_roc(rows: EvaluatedRows, figure: Figure) -> None:
    """Both curves of two classes, with the threshold 0.5 and the one of the best F1 marked on each."""
    from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay, precision_recall_curve

    figure.set_size_inches(10, 5.6)
    left, right = figure.subplots(1, 2)
    positive, score = rows.target == 1, rows.proba[:, 1]
    for display, ax in ((PrecisionRecallDisplay, left), (RocCurveDisplay, right)):
        name = shortened(rows.names[1])
        drawn = display.from_predictions(positive, score, name=name, ax=ax, plot_chance_level=True)
        drawn.line_.set_color(BLUE)
        drawn.chance_level_.set(**CHANCE)
    precision, recall, threshold = precision_recall_curve(positive, score)
    best = threshold[(2 * precision * recall / np.maximum(precision + recall, 1e-12))[:-1].argmax()]
    marks = {"threshold 0.5": (0.5, "o", INK), f"best F1, threshold {best:.2f}": (best, "D", ORANGE)}
    for label, (lowest, marker, colour) in marks.items():
        predicted = score >= lowest
        recalled, false_alarms = predicted[positive].mean(), predicted[~positive].mean()
        precise = (predicted & positive).sum() / max(predicted.sum(), 1)
        left.plot(recalled, precise, marker=marker, color=colour, label=label, **MARKS)
        right.plot(false_alarms, recalled, marker=marker, color=colour, label=label, **MARKS)
    left.set(xlabel="recall", ylabel="precision", title=f"“{rows.names[1]}” against “{rows.names[0]}”")
    right.set(xlabel="false positive rate", ylabel="true positive rate")
    for ax, corner in ((left, "lower left"), (right, "lower right")):
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        ax.legend(loc=corner)


def top_features(rows: EvaluatedRows, figure: Figure, classes: Sequence[str] | None) -> None:
    """A bar for each of the features that speak most for and against a few classes."""
    scores, names = rows.scores, list(rows.names)
    assert scores is not None
    if classes is None:
        errors = Counter(rows.target[rows.target != rows.predicted].tolist())
        ranked = sorted(range(len(names)), key=lambda k: (-errors[k], k))
        chosen = sorted(k for k in ranked[:NUM_CLASSES] if len(names) > 2 or k == 1)
    else:
        chosen = [names.index(name) for name in classes]
    across, number = min(3, len(chosen)), min(NUM_FEATURES, len(scores))
    down = -(-len(chosen) // across)
    figure.set_size_inches(1.5 + 3.3 * across, 0.6 + (1.0 + 0.25 * number) * down)
    which = " of the classes with the most errors" if classes is None and len(names) > NUM_CLASSES else ""
    _title_above(figure, f"The strongest features{which}")
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for ax in axes[len(chosen) :]:
        ax.remove()
    for ax, k in zip(axes, chosen, strict=False):
        largest = scores[:, k].abs().topk(number).indices
        top = largest[scores[largest, k].argsort(descending=True)].tolist()
        amounts = scores[top, k].tolist()
        ax.barh(range(number), amounts, color=[BLUE if amount > 0 else ORANGE for amount in amounts], height=0.7)
        ax.axvline(0, color=INK, linewidth=0.8)
        _list_down(ax, [_visible_spaces(rows.feature_names[feature]) for feature in top])
        ax.set(title=shortened(names[k]), xlabel="coefficient")


def _visible_spaces(name: str) -> str:
    """A space at the end of an n-gram of characters is part of it."""
    return shortened(name.replace(" ", "␣") if name != name.strip() else name)


def shortened(name: str) -> str:
    """A name with its middle left out where it is too long for an axis.

    >>> shortened("a_very_long_name_of_some_unusual_intent")
    'a_very_long_na…nusual_intent'
    """
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"


def _list_down(ax: Axes, names: Sequence[str]) -> None:
    """Bars from top to bottom, each with its name."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)


def _title_above(figure: Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left")  # beside long names there is no room for the title of an Axes
