"""The pictures of an evaluation: which are drawn, for which model and data, and where they go.

Computed in `callbacks.figures.curves`, drawn by `callbacks.figures.plots`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from callbacks.figures.boundary import evaluating, leaving_out, own_style, save, show_image
from callbacks.files import atomic_write_csv
from callbacks.protocols import (
    CalibratedClassifier,
    Classifier,
    GroupedClasses,
    LabelledData,
    LinearClassifier,
    NamedFeatures,
    OutOfScopeData,
    RejectingClassifier,
    datamodule_of,
    lack,
    name_of,
    offers,
)
from callbacks.reports.rows import RowCollector, batch_parts
from callbacks.run.checkpoints import own_checkpoint, weights_of

# matplotlib, numpy and scikit-learn are imported where they are used, to keep `train.py --help` fast.
if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from callbacks.figures.curves import Array

DPI = 150
MOST_CLASSES = 20  # of a confusion matrix; above, only the most confused pairs are shown
NUM_PAIRS = 20
ECE_BINS = 15  # as in the metric `test/ece`
NUM_CLASSES, NUM_FEATURES = 6, 8  # in the picture of the strongest features
CSV_FEATURES = 20  # of each class, in top_features.csv
EMBEDDING_DIMENSIONS = 50  # of the columns of W in TensorBoard's projector


@dataclass(frozen=True)
class Rows:
    """All that the pictures show of N rows of a split with K classes.

    Attributes:
        target: true classes, (N,).
        predicted: answers as `predict` gives them, (N,).
        proba: (N, K).
        names: K names.
        caption: which rows they are, printed below each picture.
        groups: the group of each class, K names; None where there are none.
        oos_class: index of the class that means "none of the others".
        threshold: below which the largest in-scope probability means out of scope.
        temperature: at which `proba` are; 1 where they are as trained.
    """

    target: Array
    predicted: Array
    proba: Array
    names: Sequence[str]
    caption: str = ""
    groups: Sequence[str] | None = None
    oos_class: int | None = None
    threshold: float | None = None
    temperature: float = 1.0


class Figures(RowCollector):
    """After `test`: pictures in figures/, confusions.csv and top_features.csv, in the run directory.

    The pictures, the columns of W for the projector, and precision-recall curves also go to TensorBoard, as a run of
    their own, `test/` in the run directory. What a model or its data does not offer is left out. They are drawn after
    the last row, in 2 to 4 seconds.

    After `fit`: the same pictures of the validation rows, as the model in best.ckpt answers them, in figures/val_*.png
    and among the images of the run; without groups of classes, which may have to be downloaded. They cost one more pass
    over these rows, because the best epoch is known only at the end, and a resumed run may begin after it.

    Args:
        enabled: false draws nothing.
        classes: names of the classes in the picture of the strongest features; null takes those with the most errors.

    Raises:
        ValueError: from the hooks: `classes` names one that the data has not.
    """

    def __init__(self, enabled: bool = True, classes: list[str] | None = None) -> None:
        super().__init__()
        self.enabled, self.classes = enabled, classes
        self._groups: Sequence[str] | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse what cannot be drawn, before anything runs; a model without labels or names has no pictures."""
        data = datamodule_of(trainer)
        self._applies = self.enabled and stage in ("fit", "test") and not trainer.fast_dev_run  # type: ignore[attr-defined]
        self._applies = self._applies and (lack(pl_module, Classifier) or lack(data, LabelledData)) is None
        if not self._applies:
            return
        unknown = set(self.classes or []) - set(data.class_names)
        if unknown:
            raise ValueError(f"figures.classes: expected names of classes, got {sorted(unknown)}")
        self._groups = None
        try:
            self._groups = data.class_groups if stage == "test" and offers(data, GroupedClasses) else None
        except OSError as error:
            print(f"the pictures are without groups of classes: {error}")

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        if self._applies:
            self._answer(trainer, pl_module, batch)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rows = self._rows(trainer, pl_module, "test rows")
        if rows is None:
            return
        coefficients, feature_names = linear_features(pl_module, datamodule_of(trainer))
        run = Path(trainer.default_root_dir)
        write_confusions(run / "confusions.csv", rows)
        if coefficients is not None:
            write_top_features(run / "top_features.csv", coefficients, rows.names, feature_names)
        drawn = pictures(rows, coefficients, feature_names, self.classes)
        images = save_all(drawn, run / "figures")
        log_to_tensorboard(run / "test", rows, images, coefficients, trainer.global_step)
        print(f"{len(images)} pictures in {run / 'figures'}")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the validation rows; also where a resume finds that the training had been completed."""
        best = own_checkpoint(trainer)
        saved = best is not None and Path(best.best_model_path).is_file()
        # All processes or none, because they share the rows; of machines without a common folder only one has the file.
        if not self._applies or not trainer.strategy.reduce_boolean_decision(saved) or best is None:
            return
        with isolate_rng(), evaluating(pl_module), weights_of(best.best_model_path, pl_module):
            try:
                for batch in validation_batches(trainer):
                    self._answer(trainer, pl_module, batch)
            except ValueError as error:  # of batches that `test` will refuse; the fit is done, and is none the worse
                rank_zero_only(print)(f"no pictures of the validation rows: {error}")
                return self.clear()
            rows = self._rows(trainer, pl_module, f"validation rows, answered by best.ckpt of {best.best_state}")
            if rows is None:
                return
            features = linear_features(pl_module, datamodule_of(trainer))
        folder, drawn = Path(trainer.default_root_dir, "figures"), pictures(rows, *features, self.classes)
        images = save_all(((f"val_{name}", figure) for name, figure in drawn), folder)
        for name, pixels in images.items():
            show_image(trainer, name, pixels, trainer.global_step)
        print(f"{len(images)} pictures of the validation rows: {folder / 'val_*.png'}")

    def _answer(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any) -> None:
        """Keep the true classes of a batch, the answers and the probabilities."""
        x, target, indices = batch_parts(batch)
        if target is not None:
            proba, predicted, _ = self.predict(trainer, pl_module, x)
            self.collect(trainer, indices, target, predicted, proba.float())

    def _rows(self, trainer: L.Trainer, pl_module: L.LightningModule, which: str) -> Rows | None:
        """All that was kept, of all processes; None on others than the first, and where there is nothing."""
        columns, data = self.gather(), datamodule_of(trainer)
        if not columns or not trainer.is_global_zero:
            return None
        _, target, predicted, proba = (column.numpy() for column in columns)
        return Rows(
            target,
            predicted,
            proba,
            data.class_names,
            f"{len(target):,} {which}",
            self._groups,
            data.oos_class if offers(data, OutOfScopeData) else None,
            pl_module.threshold if offers(pl_module, RejectingClassifier) else None,
            pl_module.temperature if offers(pl_module, CalibratedClassifier) else 1.0,
        )


def validation_batches(trainer: L.Trainer) -> Iterator[Any]:
    """The batches that a validation within the fit takes on this process, in the precision of the model."""
    if not trainer.enable_validation:
        return
    trainer.fit_loop.epoch_loop.val_loop.setup_data()  # a resume that finds the training completed has no loader yet
    loader = CombinedLoader(trainer.val_dataloaders, "sequential")
    loader.limits = trainer.num_val_batches
    for batch, *_ in loader:
        yield trainer.precision_plugin.convert_input(batch)


def linear_features(model: object, data: object) -> tuple[Tensor | None, list[str]]:
    """Coefficients (D, K) and D names, of a linear model whose features have names; else None and no names."""
    if not (offers(model, LinearClassifier) and offers(data, NamedFeatures)):
        return None, []
    with torch.no_grad():
        coefficients, names = model.coefficients().cpu().float(), data.feature_names
    return coefficients, [name_of(names, column) for column in range(len(coefficients))]


def pictures(
    rows: Rows, coefficients: Tensor | None, feature_names: list[str], classes: list[str] | None
) -> Iterator[tuple[str, Figure]]:
    """Every picture that applies, with its name; below each which rows it shows."""
    from callbacks.figures.plots import caption

    drawn = {"confusions": confusion_pictures(rows), "reliability and coverage": trust_pictures(rows)}
    if rows.oos_class is not None:
        drawn["out of scope"] = out_of_scope_pictures(rows)
    elif len(rows.names) == 2 and len(set(rows.target.tolist())) == 2:
        drawn["precision, recall and ROC"] = binary_pictures(rows)
    if coefficients is not None:
        drawn["features"] = features_pictures(rows, coefficients, feature_names, classes)
    for kind, figures in drawn.items():
        with leaving_out(f"pictures of {kind}"):
            for name, figure in figures:
                caption(figure, rows.caption)
                yield name, figure


def confusion_pictures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """The confusion matrix of few classes; of many their most confused pairs, and the matrix of their groups."""
    from sklearn.metrics import confusion_matrix

    from callbacks.figures import plots
    from callbacks.figures.curves import confused_pairs, grouped

    wrong = int((rows.target != rows.predicted).sum())
    title = f"{len(rows.target) - wrong:,} of {len(rows.target):,} rows right"
    if len(rows.names) <= MOST_CLASSES:
        counts = confusion_matrix(rows.target, rows.predicted, labels=range(len(rows.names)))
        yield "confusion", matrix_picture(counts, rows.names, title)
        return
    pairs = [pair for pair in confused_pairs(rows.target, rows.predicted) if rows.oos_class not in pair[:2]]
    between, pairs = sum(count for *_, count in pairs), pairs[:NUM_PAIRS]
    if pairs:
        figure = new_figure(9, 1.4 + 0.3 * len(pairs))
        named = [(rows.names[truth], rows.names[answer], count) for truth, answer, count in pairs]
        shown = sum(count for *_, count in pairs)
        which = "" if rows.oos_class is None else " within the scope"
        title_of_pairs = f"The {len(pairs)} most frequent confusions{which}: {shown:,} of {between:,}"
        plots.confused_pairs(figure.add_subplot(), named, title_of_pairs)
        yield "confused_pairs", figure
    if rows.groups is not None and len(set(rows.groups)) <= MOST_CLASSES:
        (truth, names), (answer, _) = (grouped(labels, rows.groups) for labels in (rows.target, rows.predicted))
        counts = confusion_matrix(truth, answer, labels=range(len(names)))
        right = f"{int(counts.trace()):,} of {len(truth):,} rows in the right group"
        yield "confusion_of_groups", matrix_picture(counts, names, right)


def trust_pictures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Whether the probabilities can be trusted, and what it brings to hand over the least certain rows."""
    from callbacks.figures import plots
    from callbacks.figures.curves import before_scaling, expected_calibration_error, reliability, risk_coverage

    confidence, most_probable = rows.proba.max(axis=1), rows.proba.argmax(axis=1)
    right = most_probable == rows.target
    confidences = {"as trained": confidence}
    if rows.temperature != 1:
        before = before_scaling(rows.proba, rows.temperature).max(axis=1)
        confidences = {"as trained": before, f"at T = {rows.temperature:.2f}": confidence}
    curves = {}
    for name, values in confidences.items():
        error = expected_calibration_error(reliability(values, right, ECE_BINS))
        curves[f"{name}: calibration error {error:.3f}"] = reliability(values, right)
    figure = new_figure(7.5, 6.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    plots.reliability(above, below, curves, "Can its probabilities be trusted?")
    yield "reliability", figure

    figure = new_figure()
    title = "Accuracy if a person takes the least certain rows"
    plots.risk_coverage(figure.add_subplot(), *risk_coverage(confidence, rows.predicted == rows.target), title)
    yield "risk_coverage", figure


def out_of_scope_pictures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Where the threshold is, and where it could be."""
    from callbacks.figures import plots
    from callbacks.figures.curves import threshold_curve

    assert rows.oos_class is not None
    in_scope_proba = rows.proba.copy()
    in_scope_proba[:, rows.oos_class] = -1
    score, label, oos = in_scope_proba.max(axis=1), in_scope_proba.argmax(axis=1), rows.target == rows.oos_class
    if not oos.any() or oos.all():
        return
    figure = new_figure()
    curve = threshold_curve(score, label, rows.target, rows.oos_class)
    plots.threshold_curve(figure.add_subplot(), curve, rows.threshold, "Where should the threshold be?")
    yield "threshold", figure

    figure = new_figure()
    title = "How far apart are in scope and out of scope?"
    plots.score_histogram(figure.add_subplot(), score[~oos], score[oos], rows.threshold, title)
    yield "scores", figure


def binary_pictures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Precision-recall and ROC of class 1."""
    from callbacks.figures import plots
    from callbacks.figures.curves import best_f1_threshold

    score, figure = rows.proba[:, 1], new_figure(10, 5.6)
    best = best_f1_threshold(rows.target, score)
    thresholds = {"threshold 0.5": 0.5, f"best F1, threshold {best:.2f}": best}
    title = f"“{rows.names[1]}” against “{rows.names[0]}”"
    left, right = figure.subplots(1, 2)
    plots.precision_recall_and_roc(left, right, rows.target, score, thresholds, title)
    yield "precision_recall_roc", figure


def features_pictures(
    rows: Rows, coefficients: Tensor, feature_names: list[str], classes: list[str] | None
) -> Iterator[tuple[str, Figure]]:
    """The features that speak most for and against a few classes."""
    from callbacks.figures import plots

    if classes is None:
        wrong = rows.target != rows.predicted
        errors = Counter(rows.target[wrong].tolist())
        ranked = sorted(range(len(rows.names)), key=lambda k: (-errors[k], k))
        chosen = sorted(k for k in ranked[:NUM_CLASSES] if len(rows.names) > 2 or k == 1)
    else:
        chosen = [list(rows.names).index(name) for name in classes]
    across = min(3, len(chosen))
    down = -(-len(chosen) // across)
    figure = new_figure(1.5 + 3.3 * across, 0.6 + (1.0 + 0.25 * min(NUM_FEATURES, len(coefficients))) * down)
    which = " of the classes with the most errors" if classes is None and len(rows.names) > NUM_CLASSES else ""
    figure.suptitle(f"The strongest features{which}", fontsize=14, x=0.01, ha="left")
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for ax in axes[len(chosen) :]:
        ax.remove()
    for ax, k in zip(axes, chosen, strict=False):
        strongest = strongest_features(coefficients[:, k], NUM_FEATURES)
        plots.features(ax, [(feature_names[j], amount) for j, amount in strongest], rows.names[k])
    yield "top_features", figure


def strongest_features(coefficients: Tensor, number: int) -> list[tuple[int, float]]:
    """Of (D,) coefficients up to `number` with the largest size, from the highest to the lowest."""
    top = coefficients.abs().topk(min(number, len(coefficients))).indices.tolist()
    return sorted(((j, float(coefficients[j])) for j in top), key=lambda pair: -pair[1])


def write_confusions(path: Path, rows: Rows) -> None:
    """Every pair of a true class and a wrong answer, its rows, and their share of the rows of that class."""
    from callbacks.figures.curves import confused_pairs

    total = Counter(rows.target.tolist())
    pairs = confused_pairs(rows.target, rows.predicted)
    lines = ((rows.names[t], rows.names[p], count, f"{count / total[t]:.4f}") for t, p, count in pairs)
    atomic_write_csv(path, ("target", "predicted", "rows", "share"), lines)


def write_top_features(path: Path, coefficients: Tensor, names: Sequence[str], feature_names: list[str]) -> None:
    """The features that raise each class most, those with the highest coefficients first."""
    top = coefficients.topk(min(CSV_FEATURES, len(coefficients)), dim=0)  # (20, K) each
    lines = (
        (name, rank, feature_names[int(feature)], f"{float(amount):.4f}")
        for k, name in enumerate(names)
        for rank, (feature, amount) in enumerate(zip(top.indices[:, k], top.values[:, k], strict=True), start=1)
    )
    atomic_write_csv(path, ("label", "rank", "feature", "coefficient"), lines)


def new_figure(width: float = 7.5, height: float = 5.0) -> Figure:
    """An empty figure; a bare one has no global state, unlike pyplot's."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def matrix_picture(counts: Array, names: Sequence[str], title: str) -> Figure:
    """A confusion matrix, as large as its names need."""
    from callbacks.figures import plots

    figure = new_figure(3.5 + 0.55 * len(names), 2.8 + 0.5 * len(names))
    plots.confusion_matrix(figure.add_subplot(), counts, names, title)
    return figure


def save_all(drawn: Iterator[tuple[str, Figure]], folder: Path) -> dict[str, Array]:
    """Draw each picture, write it as NAME.png, and return the pixels of those that could be drawn, by name."""
    images = {}
    with leaving_out("pictures"), own_style():
        for name, figure in drawn:
            with leaving_out(f"{name}.png"):
                images[name] = save(figure, folder / f"{name}.png")
    return images


def principal_coordinates(columns: Tensor) -> Tensor:
    """The columns (D, K) as K points in at most 50 dimensions, which keep their distances as well as 50 can.

    All D coordinates would be 30 MB for 10,000 features. From the eigenvectors of the (K, K) products, which is fast
    where D is large (classical multidimensional scaling).
    """
    columns = columns.double()
    values, vectors = torch.linalg.eigh(columns.T @ columns)  # ascending
    return (vectors * values.clamp(min=0).sqrt()).flip(1)[:, :EMBEDDING_DIMENSIONS].float()


def log_to_tensorboard(
    folder: Path, rows: Rows, images: dict[str, Array], coefficients: Tensor | None, step: int
) -> None:
    """Images, precision-recall curves, and the columns of W for the projector; replaces those of an earlier test."""
    from torch.utils.tensorboard import SummaryWriter

    for earlier in folder.glob("events.out.tfevents.*"):
        earlier.unlink()
    with SummaryWriter(str(folder)) as writer:
        for name, pixels in images.items():
            writer.add_image(name, pixels, step, dataformats="HWC")
        if rows.oos_class is not None:
            score = rows.proba[:, rows.oos_class]
            writer.add_pr_curve("out_of_scope", rows.target == rows.oos_class, score, step)
        elif len(rows.names) == 2:
            writer.add_pr_curve(rows.names[1], rows.target, rows.proba[:, 1], step)
        if coefficients is not None and len(rows.names) > 2:
            groups = rows.groups or rows.names
            metadata = [[" ".join(cell.split()) for cell in pair] for pair in zip(rows.names, groups, strict=True)]
            points = principal_coordinates(coefficients)
            writer.add_embedding(points, metadata, metadata_header=["label", "group"], tag="W", global_step=step)
