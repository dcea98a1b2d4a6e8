"""Pictures of an evaluation, each a function that draws the rows of a split on a matplotlib Figure.

Precision-recall, ROC and confusion are drawn by scikit-learn's Displays.
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

from callbacks.figures.canvas import BLUE, CHANCE, GREY, INK, MARKS, ORANGE, without_unit
from callbacks.figures.curves import Array, before_scaling, confused_pairs, interval, risk_coverage, threshold_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST_NAME = 28  # characters of a name on an axis
MOST_ZEROS = 4  # classes of a confusion matrix that prints them
MOST_CLASSES = 20  # of a confusion matrix; above, only the most confused pairs are shown
FEWEST_ROWS = 100  # below, curves would show single rows as if they were shares
NUM_PAIRS, LONGEST_EXAMPLE = 12, 60
HANDED_OVER = 0.1  # share of rows that a person takes, in the title
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
    standardised: bool = False  # the features are, so that a unit of theirs is a standard deviation
    example: Callable[[int], str] | None = None  # of the row at a place in these arrays, its content in words


def pictures(rows: EvaluatedRows, classes: Sequence[str] | None = None) -> dict[str, Callable[[Figure], Any]]:
    """Every picture that applies, by name; `classes` have their strongest features shown, None those of most errors."""
    drawn: dict[str, Callable[[Figure], Any]] = {}
    if len(rows.names) <= MOST_CLASSES:
        drawn["confusion"] = partial(confusion, rows.target, rows.predicted, rows.names, "right")
    else:
        pairs = confused_pairs(rows.target, rows.predicted)
        if pairs := [pair for pair in pairs if rows.oos_class not in pair[:2]]:
            drawn["confused_pairs"] = partial(draw_confused_pairs, rows, pairs)
        groups = list(dict.fromkeys(rows.groups or ()))
        if rows.groups is not None and len(groups) <= MOST_CLASSES:
            of_class = np.array([groups.index(group) for group in rows.groups])
            columns = (of_class[rows.target], of_class[rows.predicted])
            drawn["confusion_of_groups"] = partial(confusion, *columns, groups, "in the right group")
    if len(rows.target) >= FEWEST_ROWS:
        drawn["reliability"] = partial(reliability, rows)
        drawn["risk_coverage"] = partial(draw_risk_coverage, rows)
        if rows.oos_class is not None:
            if 0 < (rows.target == rows.oos_class).sum() < len(rows.target):
                drawn["threshold"] = partial(draw_threshold_curve, rows)
        elif len(rows.names) == 2 and len(set(rows.target.tolist())) == 2:
            drawn["precision_recall_roc"] = partial(precision_recall_and_roc, rows)

    def with_caption(draw: Callable[[Figure], Any], figure: Figure) -> None:
        draw(figure)
        figure.supxlabel(rows.caption, x=0.99, ha="right", fontsize=9, color=GREY)

    drawn = {name: partial(with_caption, draw) for name, draw in drawn.items()}
    if rows.scores is not None and rows.scores.abs().max() > 1e-3:  # else nothing speaks for anything, as on XOR
        drawn["top_features"] = partial(top_features, rows, classes)  # the model's, whatever the rows
    return drawn


def confusion(target: Array, predicted: Array, names: Sequence[str], right: str, figure: Figure) -> None:
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
        text.set(text=counts[row, column] or ("" if len(names) > MOST_ZEROS else 0), fontsize=size, fontweight=weight)
    if max(map(len, names)) * len(names) > 60:
        ax.set_xticks(labels, names, rotation=40, ha="right")
    ax.spines[:].set_visible(False)
    low, high = interval(counts.trace(), len(target))
    ax.set_title(
        f"{counts.trace():,} of {len(target):,} rows {right}\n95% interval {low:.1%} to {high:.1%}", fontsize=12
    )
    ax.set(xlabel="predicted class", ylabel="true class")


def draw_confused_pairs(rows: EvaluatedRows, between: list[tuple[int, int, int]], figure: Figure) -> None:
    """A bar for each of the most frequent pairs of a true and another predicted class, with its surest row."""
    pairs = between[:NUM_PAIRS]
    counts = [count for *_, count in pairs]
    figure.set_size_inches(11, 1.4 + 0.34 * len(pairs))
    ax = figure.add_subplot()
    ax.barh(range(len(pairs)), counts, color=BLUE, height=0.7)
    for place, (true, other, count) in enumerate(pairs):
        of_pair = np.flatnonzero((rows.target == true) & (rows.predicted == other))
        surest = int(of_pair[rows.proba[of_pair, other].argmax()])
        text = "" if rows.example is None else f"   “{shortened(rows.example(surest), LONGEST_EXAMPLE)}”"
        ax.annotate(f"{count}{text}", (count, place), (4, 0), textcoords="offset points", va="center", fontsize=10)
    _list_down(ax, [f"{shortened(rows.names[t])}  →  {shortened(rows.names[p])}" for t, p, _ in pairs])
    ax.set_xlim(0, max(counts) * (1.05 if rows.example is None else 4))
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)
    which = "" if rows.oos_class is None else " within the scope"
    total = sum(count for *_, count in between)
    title = f"True → predicted: the {len(pairs)} most frequent confusions{which} are {sum(counts):,} of {total:,}"
    _title_above(figure, title)


def reliability(rows: EvaluatedRows, figure: Figure) -> None:
    """Accuracy over confidence above, as trained and at the temperature; below, the rows in each bin."""
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
        bins = np.searchsorted(edges[1:-1], confidence)
        count, hits, total = (np.bincount(bins, w, CALIBRATION_BINS) for w in (None, right, confidence))
        below.bar(edges[:-1] + 0.05 / CALIBRATION_BINS + number * width, count, width, align="edge", color=colour)
        count, hits, total = (column[count > 0] for column in (count, hits, total))
        share = hits / count
        bars = np.abs(np.stack(interval(hits, count)) - share)
        style: dict[str, Any] = {"fmt": marker, "color": colour, "markersize": 7, "capsize": 3, "linewidth": 1.5}
        label = f"{name}: calibration error {error:.3f}"
        ax.errorbar(total / count, share, yerr=bars, label=label, **style)
    ax.legend(loc="upper left", fontsize=11)
    ax.set(xlim=(1 / len(rows.names), 1.01), ylim=(-0.02, 1.02), ylabel="share of right predictions")
    ax.set_title("Is it right as often as it is confident?")
    below.set(xlabel="confidence: probability of the most probable class", ylabel="rows")


def draw_risk_coverage(rows: EvaluatedRows, figure: Figure) -> None:
    """Accuracy over the rows that the model classifies, against the share of rows that go to a person."""
    from matplotlib.ticker import PercentFormatter

    ax = figure.add_subplot()
    handed_over, accuracy = risk_coverage(rows.proba.max(axis=1), rows.predicted == rows.target)
    ax.plot(handed_over, accuracy)
    y = float(accuracy[round(HANDED_OVER * len(accuracy))])
    ax.plot(HANDED_OVER, y, marker="D", color=ORANGE, **MARKS)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1))
    ax.set(xlim=(-0.01, 1.01), xlabel="share of rows that go to a person, the least certain first")
    ax.set_ylabel("accuracy on the rest")
    _title_above(figure, f"{accuracy[0]:.1%} are right; if a person takes {HANDED_OVER:.0%}, {y:.1%} of the rest")


def draw_threshold_curve(rows: EvaluatedRows, figure: Figure) -> None:
    """In-scope accuracy against out-of-scope recall, around the chosen threshold, or else the one with the best sum."""
    assert rows.oos_class is not None
    ax = figure.add_subplot()
    curve = threshold_curve(rows.proba, rows.target, rows.oos_class)
    recall, accuracy = curve.oos_recall, curve.in_scope_accuracy
    chosen = curve.threshold[(recall + accuracy).argmax()] if rows.threshold is None else rows.threshold
    x, y = curve.at(chosen)
    shown = accuracy >= y - 0.1
    ax.plot(recall[shown], accuracy[shown])
    labelled = [x]
    for threshold in np.arange(0.05, 1, 0.05):
        place = curve.at(threshold)
        if place[1] >= y - 0.1 and all(abs(place[0] - other) > 0.04 for other in labelled):  # else they would overlap
            labelled.append(place[0])
            ax.plot(*place, marker="o", color=BLUE, markersize=5)
            beside: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "top", "color": GREY}
            ax.annotate(f"{threshold:.2f}", place, (-5, -5), fontsize=10, **beside)
    ax.plot(x, y, marker="D", color=ORANGE, label=f"threshold {chosen:.3f}", **MARKS)
    ax.set(xlabel="out-of-scope recall", ylabel="in-scope accuracy")
    ax.legend(loc="lower left")
    _title_above(figure, f"At {chosen:.3f}: {y:.1%} in scope right, {x:.1%} out of scope found")


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


def top_features(rows: EvaluatedRows, classes: Sequence[str] | None, figure: Figure) -> None:
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
    figure.set_size_inches(1.8 + 3.3 * across, 0.6 + (1.0 + 0.25 * number) * down)
    which = ", of the classes with the most errors" if classes is None and len(names) > NUM_CLASSES else ""
    _title_above(figure, f"What speaks for a class, and against it{which}")
    axes = figure.subplots(down, across, squeeze=False, sharex=True).flatten()
    for ax in axes[len(chosen) :]:
        ax.remove()
    unit = " per standard deviation" if rows.standardised else ""
    for ax, k in zip(axes, chosen, strict=False):
        largest = scores[:, k].abs().topk(number).indices
        top = largest[scores[largest, k].argsort(descending=True)].tolist()
        amounts = scores[top, k].tolist()
        ax.barh(range(number), amounts, color=[BLUE if amount > 0 else ORANGE for amount in amounts], height=0.7)
        ax.axvline(0, color=INK, linewidth=0.8)
        _list_down(ax, readable(rows.feature_names, top, rows.standardised))
        ax.tick_params(labelbottom=True)
        ax.set(title=shortened(names[k]), xlabel=("log-odds" if len(names) == 2 else "logit") + unit)


def readable(names: Sequence[str], columns: Sequence[int], standardised: bool) -> list[str]:
    """Names for an axis: without their units where the features are standardised; n-grams of characters by their place.

    They follow the n-grams of words, and scikit-learn sorts them: first those that begin with a space.

    >>> readable(["yes", "of the", " yes ", " yes", "es ", "see"], range(6), False)
    ['yes', 'of the', '␣yes␣', 'yes…', '…es', '…see…']
    """
    first = next((place for place, name in enumerate(names) if name.startswith(" ")), len(names))
    found = []
    for column in columns:
        name = names[column]
        if column >= first:
            inside, ends = name.strip(" ").replace(" ", "␣"), (name.startswith(" "), name.endswith(" "))
            name = f"␣{inside}␣" if all(ends) else f"{'' if ends[0] else '…'}{inside}{'' if ends[1] else '…'}"
        found.append(shortened(without_unit(name) if standardised else name))
    return found


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """A name with its middle left out where it is too long for an axis.

    >>> shortened("a_very_long_name_of_some_unusual_intent")
    'a_very_long_na…nusual_intent'
    """
    half = longest // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[1 - half :]}"


def _list_down(ax: Axes, names: Sequence[str]) -> None:
    """Bars from top to bottom, each with its name."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)


def _title_above(figure: Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left")  # beside long names there is no room for the title of an Axes
